"""What the dashboard asks for."""

import json
import os
import shutil

import pytest
from starlette.testclient import TestClient
from test_curves import unpacked

from wikigpt.errors import ConfigError
from wikigpt.metrics import read_all
from wikigpt.runs import locked
from wikigpt.studio import board
from wikigpt.studio.app import make_app
from wikigpt.studio.board import Board
from wikigpt.studio.curves import Curves
from wikigpt.studio.engine import Engine


@pytest.fixture
def own(house, tmp_path, data, monkeypatch):
    """Copies of the runs, to be changed; a client of theirs, which looks anew each time."""
    monkeypatch.setattr(board, "FRESH", -1.0)
    shutil.copytree(house / "models", tmp_path / "models")
    app = make_app(Engine("cpu", str(tmp_path / "models")), str(data.path.parent))
    return tmp_path / "models", TestClient(app, base_url="http://localhost")


def test_runs_and_where_they_stand(client, house):
    found = client.get("/api/runs").json()
    assert found["folder"] == str(house / "models")
    assert {run["name"] for run in found["runs"]} == {"g", "m"}
    (run,) = [run for run in found["runs"] if run["name"] == "g"]
    assert (run["state"], run["step"], run["total_steps"], run["saved"]) == ("finished", 12, 12, 12)
    rows = read_all(house / "models" / "g")
    assert run["loss"] == rows["train"][-1]["loss"] and run["bits_per_byte"] == rows["final"][-1]["bits_per_byte"]
    assert run["seconds_left"] is None and run["tokens"] == rows["train"][-1]["tokens"]


def test_a_run_that_trains_says_how_long_it_will(own):
    models, client = own
    record = json.loads((models / "g/run.json").read_text())
    (models / "g/run.json").write_text(json.dumps(record | {"total_steps": 24}))
    rows = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    assert rows["g"]["state"] == "stopped" and rows["g"]["seconds_left"] is None
    with locked(models / "g", ConfigError("busy", "")):
        first = client.get("/api/runs").json()["runs"][0]
    assert (first["name"], first["state"]) == ("g", "training")
    spent = read_all(models / "g")["train"][-1]["seconds"]
    assert first["seconds_left"] == pytest.approx(spent)  # as much again


def test_a_run_that_cannot_be_read_is_said(own):
    models, client = own
    (models / "g/run.json").write_text("{")
    (run,) = [run for run in client.get("/api/runs").json()["runs"] if run["name"] == "g"]
    assert run["state"] == "unreadable" and "run.json" in run["problem"]
    assert client.get("/api/runs/g").status_code == 404


@pytest.mark.parametrize(
    "row", ['{"kind": "train", "step": 99}', '{"kind": "train", "step": 99, "seconds": "1", "loss": null, "mfu": NaN}']
)
def test_an_odd_row_takes_nothing_else_away(own, row):
    models, client = own
    with open(models / "g/metrics.jsonl", "a") as file:
        file.write(row + "\n")
    found = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    assert found["g"]["step"] == 99 and found["g"]["seconds_left"] is None and found["m"]["loss"] > 0


def test_an_odd_run_takes_no_other_away(own):
    models, client = own
    record = json.loads((models / "g/run.json").read_text())
    (models / "g/run.json").write_text(json.dumps(record | {"data": None}))
    (models / os.fsdecode(b"\xff\xfe")).mkdir()
    (models / os.fsdecode(b"\xff\xfe") / "run.json").write_text("{}")
    found = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    assert found["g"]["state"] == "unreadable" and found["m"]["state"] == "finished" and len(found) == 2
    assert client.get("/v1/models").status_code == 200


def test_nobody_reads_on_while_a_table_is_made(house, monkeypatch):
    """Else one column would be longer than another."""
    engine = Engine("cpu", str(house / "models"))
    there, seen = Board(engine), []
    monkeypatch.setattr(Curves, "csv", lambda curves: seen.append(there._lock.locked()))
    monkeypatch.setattr(Curves, "packed", lambda curves, *given: seen.append(there._lock.locked()))
    there.csv(engine.run("g"))
    there.packed(engine.run("g"), "", 0)
    assert seen == [True, True]


def test_no_runs_at_all(tmp_path):
    client = TestClient(make_app(Engine("cpu", str(tmp_path / "none")), str(tmp_path)), base_url="http://localhost")
    assert client.get("/api/runs").json()["runs"] == [] and client.get("/api/data").json()["data"] == []
    assert client.get("/v1/models").json()["data"] == []


def test_one_run_with_all_that_is_known(client, house):
    found = client.get("/api/runs/g").json()
    assert found["settings"]["emb_dim"] == 32 and found["settings"]["learning_rate"] == 0.02
    assert found["checkpoints"][0] == 12 and 6 in found["checkpoints"] and found["has_best"]
    steps = [step for step, _ in found["samples"]]
    assert (
        steps[0] == "Step 0"
        and steps[-1] == "Step 12"
        and all(len(pair) == 2 for _, pairs in found["samples"] for pair in pairs)
    )
    assert found["source"][0]["licence"] and found["evaluation"] == {} and found["ladder"] == {}


def test_what_evaluate_has_found_is_shown(own):
    models, client = own
    folder = models / "g/evaluation/step_00000012"
    folder.mkdir(parents=True)
    (folder / "test.json").write_text('{"bits_per_byte": 2.5, "step": 12}')
    assert client.get("/api/runs/g").json()["evaluation"]["test"]["bits_per_byte"] == 2.5


def test_curves_come_packed_and_as_a_table(client, house):
    rows = read_all(house / "models" / "g")["train"]
    found = unpacked(client.get("/api/runs/g/curves").content)
    assert found["train"]["loss"] == [row["loss"] for row in rows]
    again = unpacked(client.get(f"/api/runs/g/curves?key={found['key']}&rows={found['rows']}").content)
    assert again["train"]["rows"] == 0 and again["start"] == len(rows)
    assert len(client.get("/api/runs/g/curves.csv").text.splitlines()) == len(rows) + 1


def test_runs_side_by_side(client):
    found = client.get("/api/compare?run=g&run=m").json()
    assert [row["run"] for row in found["rows"]] == ["g", "m"] and found["differences"]["arch"] == ["gpt2", "qwen3"]
    assert client.get("/api/compare?run=g").status_code == client.get("/api/compare?run=g&run=g").status_code == 400
    assert client.get("/api/compare").status_code == 400
    assert client.get("/api/compare?run=g&run=none").status_code == 404


@pytest.mark.parametrize("path", ["..%2F..%2Fetc", "%2Fetc%2Fpasswd", "..", "g%00", "none", "%2e%2e", "g%2F..%2Fg"])
@pytest.mark.parametrize("what", ["", "/curves", "/curves.csv", "/architecture"])
def test_nothing_outside_of_the_runs(client, path, what):
    answer = client.get(f"/api/runs/{path}{what}")
    assert answer.status_code in (404, 405) and "error" in answer.json()


def test_static_files_are_the_pages_and_nothing_else(client):
    for path in (
        "/web/../app.py",
        "/web/%2e%2e/app.py",
        "/web/..%2fapp.py",
        "/web//etc/passwd",
        "/web/uplot/../../app.py",
    ):
        assert client.get(path).status_code == 404


def test_live_says_it_at_once_and_whenever_it_changes(own, monkeypatch):
    import asyncio

    models, _ = own
    source = board._live(Board(Engine("cpu", str(models))))

    async def both() -> tuple[str, str]:
        first = await anext(source)
        with open(models / "g/metrics.jsonl", "a") as file:
            file.write('{"kind": "train", "step": 13, "loss": 1.25, "tokens": 1, "seconds": 26}\n')
        second = await asyncio.wait_for(anext(source), 10)
        await source.aclose()
        return first, second

    first, second = (json.loads(event[6:])["runs"] for event in asyncio.run(both()))
    assert {run["name"] for run in first} == {"g", "m"}
    assert next(run for run in second if run["name"] == "g")["loss"] == 1.25


def test_a_live_stream_says_that_it_is_still_there(own, monkeypatch):
    import asyncio

    monkeypatch.setattr(board, "SILENCE", 0.5)
    models, _ = own

    async def two() -> list[str]:
        source = board._live(Board(Engine("cpu", str(models))))
        found = [await anext(source), await asyncio.wait_for(anext(source), 10)]
        await source.aclose()
        return found

    assert asyncio.run(two())[1].startswith(":")


def test_the_list_is_looked_up_once_for_many(house, monkeypatch):
    looked = []
    monkeypatch.setattr(board, "newest_rows", lambda path: looked.append(path) or {})
    there = Board(Engine("cpu", str(house / "models")))
    monkeypatch.setattr(board, "FRESH", 1000.0)
    for _ in range(50):
        there.runs()
    assert len(looked) == 2
