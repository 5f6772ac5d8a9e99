"""Runs side by side: what differs is named, and the same articles are compared in pairs."""

import json
import shutil

import pytest

from wikigpt.analysis.compare import compare, paired
from wikigpt.runs import read_run


def test_two_runs_side_by_side(at_house, house, tmp_path, capsys):
    picture = tmp_path / "both.png"
    assert at_house(f"runs compare r m --out {picture}") == 0
    out = capsys.readouterr().out
    assert "arch" in out and "gpt2" in out and "qwen3" in out and picture.read_bytes().startswith(b"\x89PNG")
    found = compare([read_run(house / "models" / name) for name in "rm"])
    assert found.measure == "loss" and found.same_articles and "seed" not in found.differences
    assert found.differences["n_heads"] == [2, 4] and found.differences["arch"] == ["gpt2", "qwen3"]
    assert [row["tokens"] for row in found.rows] == [12 * 8 * 32] * 2


def test_the_same_articles_are_compared_in_pairs(at_house, house):
    runs = [read_run(house / "models" / name) for name in "rm"]
    for name in "rm":
        assert at_house(f"evaluate --run {name} --split test") == 0
    found = paired(*runs)
    records = [json.loads((run.path / "evaluation/step_00000012/test.json").read_text()) for run in runs]
    assert found["better_by"] == pytest.approx(records[0]["bits_per_byte"] - records[1]["bits_per_byte"], abs=1e-4)
    low, high = found["interval"]
    alone = [record["bits_per_byte_interval"] for record in records]
    assert low < found["better_by"] < high and high - low < min(b - a for a, b in alone)
    assert at_house("evaluate --run m --split test --stride 8") == 0
    assert paired(*runs) is None  # scored in another way
    assert at_house("evaluate --run m --split test") == 0
    nobody = paired(runs[0], runs[0])
    assert nobody["better_by"] == 0 and nobody["interval"] == (0, 0)


def test_runs_of_one_name_and_odd_names_are_all_drawn(at_house, house, tmp_path, capsys):
    for copy in (tmp_path / "r", tmp_path / "a$x^$"):
        shutil.copytree(house / "models/r", copy)
    picture = tmp_path / "three.svg"
    assert at_house(["runs", "compare", "r", str(tmp_path / "r"), str(tmp_path / "a$x^$"), "--out", str(picture)]) == 0
    drawn = picture.read_text()
    assert str(tmp_path / "r") in drawn and "models/r" in drawn and "a$x^$" in drawn
    metrics = tmp_path / "r/metrics.jsonl"
    metrics.write_text("".join(line for line in metrics.read_text().splitlines(True) if '"final"' not in line))
    capsys.readouterr()
    assert at_house(["runs", "compare", "r", str(tmp_path / "r"), "--out", str(picture)]) == 0
    assert "The figures are of different parts of validation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("r", "Name two or more"),
        ("r r", "A run was named twice"),
        ("r nothing", "There is no run in models/nothing"),
        ("r m --out x.xyz", "x.xyz is no picture"),
    ],
)
def test_a_mistake_gets_one_line(at_house, names, says, capsys):
    assert at_house(f"runs compare {names}") == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
