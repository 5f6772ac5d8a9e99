"""Passages are found where they stand, beside a search that tries every place."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wikigpt.data import passages as rooms
from wikigpt.data.passages import FOLDER, Passages, articles_of, is_indexed, matches, repeated
from wikigpt.data.prepare import PrepareSettings, prepare
from wikigpt.data.shards import DataFolder
from wikigpt.data.sources import sample
from wikigpt.errors import DataError


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
            found, expected = index.longest(ids, start), longest_anywhere(tokens, ids[start:])
            assert (found.start, found.length) == (start, expected)
            if found.length:
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
    (row,) = articles_of(found[-1:])
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


def test_a_cut_index_is_made_anew_and_two_at_once_make_one(small):
    rooms.remove_folder(small.path / FOLDER)
    with ThreadPoolExecutor() as pool:
        indexes = list(pool.map(lambda _: Passages(small), range(3)))
    assert is_indexed(small) and len({index.blocks[0].suffixes[5] for index in indexes}) == 1
    (file,) = (small.path / FOLDER).glob("*.bin.*")
    os.truncate(file, file.stat().st_size // 2)
    assert not is_indexed(small)
    Passages(small)
    assert is_indexed(small) and not [path for path in small.path.iterdir() if path.name.endswith(".partial")]


def test_tokens_of_four_bytes_in_several_shards(small, tmp_path):
    """Above 65,535 ids, with a shard that is empty."""
    random = np.random.default_rng(0)
    files, parts = {}, []
    for number, length in enumerate((400, 0, 300)):
        ids = random.integers(0, 40, length) * 4000
        ids[49::50] = 170_000  # end of text
        parts.append(ids)
        name = f"train_{number:05d}.bin"
        ids.astype("<u4").tofile(tmp_path / name)
        (np.flatnonzero(ids == 170_000) + 1).astype("<u8").tofile(tmp_path / f"{name}.index")
        files[name] = {"bytes": 4 * length, "sha256": ""}
    manifest = small.manifest | {"dtype": "uint32", "files": files, "splits": {"train": {"tokens": 700}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    index = Passages(DataFolder(tmp_path))
    for start in (0, 37, 350, 405, 655):
        tokens = parts[0] if start < 400 else parts[2]
        ids = np.concatenate([tokens[start % 400 :][:20], [5]])
        assert index.longest(ids).length == max(longest_anywhere(parts[0], ids), longest_anywhere(parts[2], ids)) >= 20


def test_a_disk_that_is_full_is_said(small, monkeypatch):
    rooms.remove_folder(small.path / FOLDER)

    def full(*_):
        raise OSError("not enough free space to write 1280 bytes")  # as numpy says it, without a number

    monkeypatch.setattr(rooms, "_build", full)
    with pytest.raises(DataError, match=r"cannot be written .not enough free space"):
        Passages(small)
