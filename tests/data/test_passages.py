"""Passages are found where they stand, beside a search that tries every place."""

import numpy as np
import pytest

from wikigpt.data import passages as rooms
from wikigpt.data.passages import FOLDER, Passages, matches, repeated
from wikigpt.data.prepare import PrepareSettings, prepare
from wikigpt.data.shards import DataFolder
from wikigpt.data.sources import sample


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> DataFolder:
    """A little English in GPT-2's tokens, more than 32,768 of them: their bytes have a sign bit."""
    settings = PrepareSettings("gpt2", None, 0.03, max_articles=300)
    return prepare(sample("en"), settings, tmp_path_factory.mktemp("dataset") / "en", workers=1)


def longest_anywhere(tokens, ids):
    """The longest beginning of `ids` in `tokens`, by looking everywhere."""
    best = 0
    for place in np.flatnonzero(tokens == ids[0]):
        here = tokens[place : place + len(ids)]
        other = np.flatnonzero(here != ids[: len(here)])
        best = max(best, int(other[0]) if len(other) else len(here))
    return best


@pytest.mark.parametrize("block", [2**26, 3000])
def test_the_longest_passage_is_the_longest_there_is(small, monkeypatch, block):
    monkeypatch.setattr(rooms, "BLOCK", block)
    rooms.remove_folder(small.path / FOLDER)
    index = Passages(small)
    assert len(index.blocks) == 1 if block == 2**26 else len(index.blocks) > 5
    stream = small.stream("train")
    tokens = stream.read(0, len(stream))
    held_out = small.stream("validation").read(0, 400)
    for ids in (tokens[1000:1200], held_out[:200], held_out[200:], np.array([0, 50255, 3])):
        for start in range(0, len(ids), 17):
            found, expected = index.longest(ids[start:]), longest_anywhere(tokens, ids[start:])
            assert (found.length if found else 0) == expected
            if found:
                shard = np.fromfile(small.path / found.shard, "<u2").astype(np.int64)
                assert (shard[found.position : found.position + found.length] == ids[start : start + expected]).all()


def test_matches_are_the_longest_ones_and_say_where_they_are_from(small):
    stream = small.stream("train")
    one, other = stream.read(2000, 60), stream.read(20_000, 70)
    ids = np.concatenate([[7], one, [11, 13], other])
    found = matches(ids, [Passages(small)], 30)
    assert [(match.start, match.end) for match in found if match.length >= 50] in (
        [(1, 61), (63, 133)], [(0, 61), (63, 133)], [(1, 61), (62, 133)],
    )  # fmt: skip
    assert repeated(len(ids), found).sum() >= 130
    row = found[-1].article()
    assert row["split"] == "train" and row["title"]
    assert matches(ids[:3], [Passages(small)], 30) == [] == matches([], [Passages(small)])


def test_an_index_of_other_data_is_made_anew(small):
    rooms.remove_folder(small.path / FOLDER)
    Passages(small)
    kept = small.path / FOLDER / rooms.CONTENT
    before = kept.read_text()
    kept.write_text(before.replace(small.hash, "0" * 64))
    Passages(small)
    assert kept.read_text() == before
    (small.path / f".{FOLDER}.partial").mkdir()  # left by a kill
    rooms.remove_folder(small.path / FOLDER)
    Passages(small)
    assert kept.read_text() == before and not (small.path / f".{FOLDER}.partial").exists()
    small.verify()
