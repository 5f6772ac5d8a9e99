"""The columns that a browser gets are the rows that count, however the file came to be."""

import json
import random

import numpy as np
import pytest

from wikigpt.metrics import METRICS, read_all
from wikigpt.studio import curves
from wikigpt.studio.curves import TRAIN, VALIDATION, Curves, newest_rows


def row(kind: str, step: int, **more: float) -> str:
    own = {"tokens": 64 * step, "flops": 1e9 * step, "seconds": 0.5 * step, "loss": 5 / (1 + step), "mfu": 0.1}
    if kind == "validation":
        own = {"tokens": 64 * step, "loss": 6 / (1 + step), "bits_per_byte": 2.0, "part": "all"}
    if kind == "start":
        own = {}
    return json.dumps({"kind": kind, "step": step, **own, **more}) + "\n"


def a_log(seed: int) -> str:
    """A run that is stopped, resumed from an earlier step, killed in the middle of a row, and writes some steps twice."""
    chance = random.Random(seed)
    text, step = row("start", 0) + row("validation", 0), 0
    for _ in range(60):
        step += 1
        text += row("train", step, loss=chance.random())
        what = chance.random()
        if what < 0.1:
            text += row("validation", step, loss=chance.random())
        elif what < 0.15:
            step = max(0, step - chance.randrange(8))
            text += row("start", step)
        elif what < 0.18:
            text += row("train", step, loss=chance.random())[: chance.randrange(1, 40)] + "\n"
        elif what < 0.2:
            text += "[1, 2]\nnull\n{}\n" + row("final", step) + row("train", max(1, step - 3), loss=9.0)
    return text


def unpacked(packed: bytes) -> dict:
    """As the page reads it."""
    length = int.from_bytes(packed[:4], "little")
    head, place = json.loads(packed[4 : 4 + length]), 4 + length
    assert place % 8 == 0
    for part in ("train", "validation"):
        for name in head[part]["columns"]:
            head[part][name] = np.frombuffer(packed, "<f8", head[part]["rows"], place).tolist()
            place += 8 * head[part]["rows"]
    assert place == len(packed)
    return head


@pytest.mark.parametrize("seed", range(20))
def test_read_in_any_pieces_they_are_what_read_all_finds(tmp_path, seed):
    text, chance = a_log(seed).encode(), random.Random(seed)
    path, found = tmp_path / METRICS, Curves(tmp_path)
    held: dict = {"train": {}, "key": "", "rows": 0}
    while True:
        more, text = text[: (size := chance.randrange(1, 900))], text[size:]
        with open(path, "ab") as file:
            file.write(more)
        found.update()
        # A page that keeps what it has, and asks for what is new.
        got = unpacked(found.packed(held["key"], held["rows"]))
        old = held["train"] if got["start"] else {}
        columns = {name: (old.get(name) or []) + got["train"][name] for name in TRAIN}
        held = {"train": columns, "key": got["key"], "rows": got["rows"], "validation": got["validation"]}
        if not text:
            break
    rows = read_all(tmp_path)
    for name in ("step", "tokens", "flops", "seconds", "loss"):
        assert held["train"][name] == [one[name] for one in rows["train"]]
    for name in ("step", "tokens", "loss", "bits_per_byte"):
        assert held["validation"][name] == [one[name] for one in rows["validation"]]
    for kind, newest in newest_rows(tmp_path).items():
        assert kind not in rows or newest == rows[kind][-1] or newest["step"] <= rows[kind][-1]["step"]


def test_an_evaluation_has_what_had_been_spent(tmp_path):
    text = row("validation", 0) + row("train", 1) + row("train", 2) + row("validation", 2) + row("validation", 9)
    (tmp_path / METRICS).write_text(text)
    found = Curves(tmp_path)
    found.update()
    spent = found.validation.by_name["seconds"].tolist()
    assert spent[:2] == [0.0, 1.0] and spent[2] != spent[2]  # nobody knows what step 9 cost


def test_a_run_begun_anew_forgets_the_old_one(tmp_path):
    path, found = tmp_path / METRICS, Curves(tmp_path)
    path.write_text("".join(row("train", step) for step in range(1, 30)))
    found.update()
    before = unpacked(found.packed())
    path.unlink()
    path.write_text(row("train", 1, loss=3.0))
    found.update()
    after = unpacked(found.packed(before["key"], before["rows"]))
    assert after["key"] != before["key"] and after["start"] == 0 and after["train"]["loss"] == [3.0]


def test_a_server_begun_anew_does_not_go_on_with_what_an_older_one_said(tmp_path):
    path = tmp_path / METRICS
    path.write_text("".join(row("train", step) for step in range(1, 30)))
    found, other = Curves(tmp_path), Curves(tmp_path)
    found.update()
    other.update()
    assert found.key != other.key


def test_the_newest_evaluation_is_found_behind_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "TAIL", 300)
    text = row("validation", 0) + "".join(row("train", step) for step in range(1, 3000))
    (tmp_path / METRICS).write_text(text)
    assert newest_rows(tmp_path)["validation"]["step"] == 0 and newest_rows(tmp_path)["train"]["step"] == 2999
    monkeypatch.setattr(curves, "LONGEST_TAIL", 1000)
    assert "validation" not in newest_rows(tmp_path)


def test_a_step_beyond_all_numbers_is_passed_over(tmp_path):
    (tmp_path / METRICS).write_text(
        '{"kind": "train", "step": 1%s}\n' % ("0" * 400) + '{"kind": "train", "step": -1}\n' + row("train", 2)
    )
    found = Curves(tmp_path)
    found.update()
    assert found.train.steps.tolist() == [2.0]


def test_only_what_is_new_is_sent(tmp_path):
    path, found = tmp_path / METRICS, Curves(tmp_path)
    path.write_text("".join(row("train", step) for step in range(1, 11)))
    found.update()
    first = unpacked(found.packed())
    with open(path, "a") as file:
        file.write(row("train", 11))
    found.update()
    second = unpacked(found.packed(first["key"], first["rows"]))
    assert second["start"] == 10 and second["train"]["step"] == [11]
    assert unpacked(found.packed("other", 10))["train"]["rows"] == 11
    assert unpacked(found.packed(first["key"], 999))["train"]["rows"] == 11


def test_of_very_many_rows_every_so_many_one_is_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MOST", 16)
    path, found = tmp_path / METRICS, Curves(tmp_path)
    path.write_text("".join(row("train", step) for step in range(1, 41)))
    found.update()
    first = unpacked(found.packed())
    assert first["every"] == 4 and first["train"]["step"] == list(range(1, 41, 4)) and first["rows"] == 40
    with open(path, "a") as file:
        file.write("".join(row("train", step) for step in range(41, 50)))
    found.update()
    second = unpacked(found.packed(first["key"], first["rows"]))
    assert first["train"]["step"] + second["train"]["step"] == list(range(1, 50, 4))


def test_the_table_for_others_has_every_row(tmp_path):
    (tmp_path / METRICS).write_text(row("train", 1) + '{"kind": "train", "step": 2}\n')
    found = Curves(tmp_path)
    found.update()
    lines = found.csv().splitlines()
    assert lines[0] == ",".join(TRAIN) and len(lines) == 3
    assert lines[1].startswith("1,64,1000000000.0,0.5,2.5,") and lines[2] == "2" + "," * (len(TRAIN) - 1)


def test_there_need_be_no_file(tmp_path):
    found = Curves(tmp_path)
    found.update()
    assert unpacked(found.packed())["train"]["rows"] == 0 and newest_rows(tmp_path) == {}
    assert set(VALIDATION) >= {"step", "loss", "bits_per_byte"}
