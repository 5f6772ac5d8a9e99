"""What the playground shows is what the model writes and thinks."""

import json
import math
import shutil

import pytest
import torch
from on_loopback import load
from starlette.testclient import TestClient

from wikigpt.data.lookup import look_up
from wikigpt.data.passages import Passages, matches
from wikigpt.data.shards import DataFolder
from wikigpt.generate import Sampling, generate_ids, load_model, prompt_ids
from wikigpt.runs import read_run
from wikigpt.studio.app import make_app
from wikigpt.studio.asked import Reader
from wikigpt.studio.engine import Engine

PROMPT = "# Luna\n\n"


def written(client, **asked) -> tuple[dict, list[dict], dict]:
    """The beginning, the tokens, the end."""
    answer = client.post("/api/generate", json={"run": "g", "prompt": PROMPT, "max_gen": 8} | asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    return events[0]["start"], events[1:-1], events[-1]["end"]


@pytest.mark.parametrize("name", ["g", "m"])
@pytest.mark.parametrize(
    "sampling",
    [Sampling(30, 0.0), Sampling(30, 1.0, seed=3), Sampling(30, 1.3, 40, 0.9, 5)],
    ids=["greedy", "free", "all"],
)
def test_it_writes_what_generate_writes(client, house, name, sampling):
    model, tokenizer = load_model(read_run(house / "models" / name), "cpu")
    ids = prompt_ids(tokenizer, PROMPT)
    ours = list(generate_ids(model, ids, tokenizer.end_of_text, sampling))
    start, tokens, end = written(client, run=name, **vars(sampling))
    assert [token["id"] for token in tokens] == ours and end["tokens"] == len(ours)
    assert "".join(token["text"] for token in tokens) + end["text"] == tokenizer.decode(ours)
    assert [id_ for id_, _ in start["prompt"]] == ids and start["model"] == f"{name}@12"
    assert end["why"] == ("length" if len(ours) == 30 else "stop")


def test_it_tells_what_the_model_thought(client, house):
    model, _ = load_model(read_run(house / "models" / "m"), "cpu")
    start, tokens, _ = written(client, run="m", temperature=1.0, seed=1, alternatives=5)
    ids = [token for token, _ in start["prompt"]] + [token["id"] for token in tokens]
    with torch.no_grad():
        probs_TV = model(torch.tensor([ids]))[0].softmax(-1)
    for n, token in enumerate(tokens, len(start["prompt"]) - 1):
        assert token["p"] == pytest.approx(probs_TV[n, token["id"]].item(), rel=1e-4)
        assert token["bits"] == pytest.approx(-math.log2(token["p"]), abs=1e-3)
        likely = probs_TV[n].topk(5)
        assert [id_ for id_, _, _ in token["alternatives"]] == likely.indices.tolist()
        assert [p for *_, p in token["alternatives"]] == pytest.approx(likely.values.tolist(), rel=1e-4)
        assert token["rank"] == 1 + int((probs_TV[n] > probs_TV[n, token["id"]]).sum())


def test_one_can_go_on_from_any_token(client):
    _, whole, _ = written(client, temperature=0.0, max_gen=12)
    before = [token["id"] for token in whole[:5]]
    start, rest, _ = written(client, temperature=0.0, max_gen=7, ids=before)
    assert [token["id"] for token in rest] == [token["id"] for token in whole[5:]]
    assert [id_ for id_, _ in start["prompt"]][-5:] == before
    other = whole[4]["alternatives"][3][0]
    start, _, _ = written(client, temperature=0.0, ids=[*before[:4], other])
    assert start["prompt"][-1][0] == other


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-6])
def test_next_to_no_temperature_is_none(client, temperature):
    _, cold, _ = written(client, temperature=temperature)
    _, none, _ = written(client, temperature=0)
    assert [token["id"] for token in cold] == [token["id"] for token in none]


def test_a_mistake_of_ours_is_the_last_event(client, engine, monkeypatch):
    def broken(*given):
        raise RuntimeError("secret")

    monkeypatch.setattr(engine, "load", broken)
    answer = client.post("/api/generate", json={"run": "g", "prompt": PROMPT})
    assert "RuntimeError" in answer.text and "secret" not in answer.text and not engine.models.tickets


def test_only_a_model_in_turn_is_loaded(client, engine, monkeypatch):
    """However many ask: a checkpoint is loaded by whoever has a turn."""
    for _ in range(16):
        engine.models.ticket()
    loads = []
    load = engine.load
    monkeypatch.setattr(engine, "load", lambda *given: (loads.append(1), load(*given))[1])
    written(client)
    assert loads == [1]


def test_an_empty_prompt_begins_an_article(client):
    start, _, _ = written(client, prompt="")
    assert [text for _, text in start["prompt"]] == [""]  # the end of the text before


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "NaN"}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_gen": 10**9}, "max_gen"),
        ({"seed": 2**70}, "seed"),
        ({"ids": [10**6]}, "There is no token 1000000"),
        ({"ids": [-1]}, "There is no token -1"),
        ({"prompt": "a" * 20_001}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"colour": 1}, "colour"),
        ({"checkpoint": "../x"}, "no checkpoint"),
        ({"run": "../models/g"}, "There is no run"),
    ],
)
def test_a_mistake_is_said_in_one_line(client, wrong, said):
    answer = client.post("/api/generate", json={"run": "g", "prompt": PROMPT, "max_gen": 2} | wrong)
    message = answer.json()["error"]["message"]
    assert answer.status_code in (400, 404) and said in message and "\n" not in message, message


def test_too_many_at_once_are_told_to_come_back(client, engine):
    tickets = [engine.models.ticket() for _ in range(18)]
    answer = client.post("/api/generate", json={"run": "g", "prompt": PROMPT})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "2"
    for ticket in tickets:
        ticket.give_back()
    written(client)
    assert not engine.models.tickets


def test_half_a_character_in_the_prompt_is_finished(client, engine):
    tokenizer = load(engine, "g").tokenizer
    half = next(n for n in range(tokenizer.vocab_size) if tokenizer.decode_bytes([n]) == b"\xc3")
    other = next(n for n in range(tokenizer.vocab_size) if tokenizer.decode_bytes([n]) == b"\xb1")
    start, _, _ = written(client, prompt="a", ids=[half, other])
    assert [text for _, text in start["prompt"]][-2:] == ["", "ñ"]


def test_a_broken_character_ends_where_the_text_ends(engine):
    tokenizer = load(engine, "g").tokenizer
    half = next(n for n in range(tokenizer.vocab_size) if tokenizer.decode_bytes([n]) == b"\xc3")
    letter = next(n for n in range(tokenizer.vocab_size) if tokenizer.decode_bytes([n]) == b"a")
    reader = Reader(tokenizer)
    assert [reader.text(n) for n in (half, tokenizer.end_of_text, letter)] == ["", "\ufffd", "a"]


def test_lone_surrogates_do_no_harm(client):
    answer = client.post(
        "/api/generate",
        content=b'{"run": "g", "prompt": "a\\ud800", "max_gen": 1}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in (200, 400)


def test_a_title_is_invented_that_no_article_has(client, data):
    found = client.post("/api/title", json={"run": "g", "seed": 3}).json()
    assert found["title"] and "\n" not in found["title"] and found["known"] is False
    assert client.post("/api/title", json={"run": "g", "seed": 3}).json() == found


def test_a_title_that_is_known_is_said(client, data, monkeypatch):
    title = look_up(data, "train:5000").row["title"]
    monkeypatch.setattr("wikigpt.studio.playground._title", lambda loaded, seed: title)
    assert client.post("/api/title", json={"run": "g"}).json()["known"] is True


def test_where_the_training_text_says_the_same(client, data, engine):
    tokenizer = load(engine, "g").tokenizer
    text = tokenizer.decode(data.stream("train").read(2000, 40).tolist())
    found = client.post("/api/passages", json={"run": "g", "prompt": text}).json()
    ids = prompt_ids(tokenizer, text)
    ours = matches(ids, [Passages(DataFolder(data.path))], 8)
    assert [(one["start"], one["tokens"]) for one in found["passages"]] == [
        (one.start, one.length) for one in ours
    ] and ours
    assert all(one["title"] and one["url"].startswith("https://es.wikipedia.org/") for one in found["passages"])


def test_without_its_data_that_is_said(house, tmp_path):
    run = read_run(house / "models" / "g")
    shutil.copytree(house / "models" / "g", tmp_path / "models" / "g")
    settings = tmp_path / "models/g/run.json"
    settings.write_text(settings.read_text().replace(run.config.data_hash, "0" * 64))
    client = TestClient(make_app(Engine("cpu", str(tmp_path / "models")), str(tmp_path)), base_url="http://localhost")
    answer = client.post("/api/passages", json={"run": "g", "prompt": "Luna"})
    assert answer.status_code == 400 and "not here" in answer.json()["error"]["message"]
    assert client.post("/api/title", json={"run": "g"}).json()["known"] is None
