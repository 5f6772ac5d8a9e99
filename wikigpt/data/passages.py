"""Where the training text says the same: the longest passage that a row of tokens repeats, and the article that it is from.

    shards ──> suffix arrays, dataset/<name>/passages/ ──> binary search ──> Match ──> article, revision, link

A suffix array lists the positions of a text in the order of what begins there, so that all places where a passage begins
stand side by side (Manber & Myers 1990). It takes four bytes a token on the disk and is read through a memory map.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from loguru import logger

from wikigpt.config import remove_folder, write_json
from wikigpt.data.lookup import articles_at
from wikigpt.data.shards import DataFolder
from wikigpt.errors import ConfigError, DataError

BLOCK = 2**26  # tokens of two bytes that are sorted at once, half as many of four: 2 GiB in memory while it lasts
GLANCE = 64  # ids that are compared at first
SMALL = 50_000_000  # training tokens that are indexed without being asked to: seconds
FOLDER, CONTENT = "passages", "passages.json"


@dataclass(frozen=True)
class Match:
    """From the id `start` on, `length` ids stand in the training text too: in a shard, from a position on (one place of
    perhaps many)."""

    start: int
    length: int
    data: DataFolder
    shard: str
    position: int

    @property
    def end(self) -> int:
        return self.start + self.length


def articles_of(found: Sequence[Match]) -> list[dict[str, Any]]:
    """For each match the row of articles.parquet of where it stands."""
    rows: dict[int, dict[str, Any]] = {}
    for data in {id(match.data): match.data for match in found}.values():
        mine = [n for n, match in enumerate(found) if match.data is data]
        places = [(found[n].shard, found[n].position) for n in mine]
        rows |= dict(zip(mine, articles_at(data, places), strict=True))
    return [rows[n] for n in range(len(found))]


class Block:
    """Whole documents of a shard and their suffix array."""

    def __init__(self, folder: Path, shard: np.ndarray, record: dict[str, Any]) -> None:
        self.shard, self.first = str(record["shard"]), int(record["start"])
        self.tokens = shard[self.first : record["end"]]
        self.suffixes = np.memmap(folder / record["file"], "<u4", mode="r")
        self.order = self.tokens.dtype.newbyteorder(">")  # bytes compare as tokens do

    def longest(self, ids: np.ndarray) -> tuple[int, int]:
        """How many of the first ids stand here in a row, and where in the shard."""
        for part in (ids[:GLANCE], ids):  # most end soon, and comparing all that follows takes time
            length, place = self._nearest(part)
            if length < len(part) or len(part) == len(ids):
                break
        return length, self.first + int(self.suffixes[place])

    def _nearest(self, ids: np.ndarray) -> tuple[int, int]:
        """The suffix that shares most with some ids, which is beside the place where they would stand."""
        wanted = ids.astype(self.order).tobytes()
        low, high = 0, len(self.suffixes)
        while low < high:
            middle = (low + high) // 2
            if self._text(middle, len(ids)) < wanted:
                low = middle + 1
            else:
                high = middle
        beside = [place for place in (low - 1, low) if 0 <= place < len(self.suffixes)]
        length, place = max((self._common(place, ids), -place) for place in beside)
        return length, -place

    def _text(self, place: int, length: int) -> bytes:
        position = int(self.suffixes[place])
        return self.tokens[position : position + length].astype(self.order).tobytes()

    def _common(self, place: int, ids: np.ndarray) -> int:
        position = int(self.suffixes[place])
        here = self.tokens[position : position + len(ids)]
        other = np.flatnonzero(here != ids[: len(here)])
        return int(other[0]) if len(other) else len(here)


class Passages:
    """The training text of a data folder, ready to be searched. Makes what is needed for it where it is not there: about 15
    seconds for each 100 million tokens. Raises DataError where that cannot be written, ConfigError without the library."""

    def __init__(self, data: DataFolder) -> None:
        self.data, folder = data, data.path / FOLDER
        if not is_indexed(data):
            try:
                with FileLock(
                    folder.with_name(f".{folder.name}.lock")
                ):  # two at once: the second waits, and finds it there
                    if not is_indexed(data):
                        _build(data, folder)
            except OSError as error:
                problem = f"The index of {data.path} cannot be written ({error.strerror or error})."
                raise DataError(
                    problem, "Make room, close what reads it, or copy the data to where it can be written."
                ) from error
        dtype = np.dtype(data.manifest["dtype"])
        shards = {name: np.memmap(data.path / name, dtype, mode="r") for name in _shards(data)}
        self.blocks = [Block(folder, shards[record["shard"]], record) for record in _content(data)]

    def longest(self, ids: np.ndarray, start: int = 0) -> Match:
        """How many ids from `start` on stand in the training text in a row (0 where not even the first does), and where."""
        found = ((*block.longest(ids[start:]), block.shard) for block in self.blocks)
        length, position, shard = max(found, default=(0, 0, ""))
        return Match(start, length, self.data, shard, position)


def is_indexed(data: DataFolder) -> bool:
    """Whether all of the training text can be searched at once."""
    sizes = {record["file"]: 4 * (record["end"] - record["start"]) for record in _content(data)}
    paths = {file: data.path / FOLDER / file for file in sizes}
    return bool(sizes) and all(paths[file].exists() and paths[file].stat().st_size == sizes[file] for file in sizes)


def matches(ids: Sequence[int] | np.ndarray, passages: Sequence[Passages], shortest: int = 1) -> list[Match]:
    """Every passage of at least `shortest` ids that the training text holds too, but for those inside a longer one; in
    order. `passages`: of every data folder."""
    row, found = np.asarray(ids, np.int64), list[Match]()
    for start in range(len(row) - shortest + 1):
        best = max((folder.longest(row, start) for folder in passages), key=lambda match: match.length)
        if best.length >= shortest and not (found and best.end <= found[-1].end):
            found.append(best)
    return found


def repeated(length: int, found: Sequence[Match]) -> np.ndarray:
    """Which of `length` ids lie inside a match."""
    inside = np.zeros(length, bool)
    for match in found:
        inside[match.start : match.end] = True
    return inside


def _shards(data: DataFolder) -> list[str]:
    size = {name: record["bytes"] for name, record in data.manifest["files"].items()}
    return [name for name in data.shards("train") if size[name]]


def _content(data: DataFolder) -> list[dict[str, Any]]:
    """The blocks of an index of this very data; none where there is no such index."""
    try:
        found = json.loads((data.path / FOLDER / CONTENT).read_text(encoding="utf-8"))
        return list(found["blocks"]) if found["data"] == data.hash else []
    except (OSError, ValueError, LookupError):
        return []


def _build(data: DataFolder, folder: Path) -> None:
    """Writes the suffix arrays of all training shards; they take the place of older ones when all are there."""
    try:
        from pydivsufsort import divsufsort
    except ImportError as error:
        raise ConfigError("To search the training text takes pydivsufsort.", "Run: pip install pydivsufsort") from error
    dtype, blocks = np.dtype(data.manifest["dtype"]), list[dict[str, Any]]()
    most = 2 * BLOCK // dtype.itemsize
    logger.info(f"indexing the training text of {data.name}: {data.training_tokens:,} tokens, once")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a kill
    partial.mkdir()
    try:
        for name in _shards(data):
            tokens = np.memmap(data.path / name, dtype, mode="r")
            for start, end in _whole_documents(np.fromfile(data.path / f"{name}.index", "<u8").astype(np.int64), most):
                file = f"{name}.{len(blocks)}"
                text = tokens[start:end].astype(dtype.newbyteorder(">")).view(np.uint8)
                positions = divsufsort(text)
                whole = positions[positions % dtype.itemsize == 0] // dtype.itemsize
                whole.astype("<u4").tofile(partial / file)
                blocks.append({"shard": name, "start": start, "end": end, "file": file})
        write_json(partial / CONTENT, {"data": data.hash, "blocks": blocks})
        remove_folder(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _whole_documents(ends: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Cuts a shard after documents, into parts of at most so many tokens (more where a single document is longer)."""
    cut, start = [], 0
    while start < (ends[-1] if len(ends) else 0):
        last = np.searchsorted(ends, start + most, side="right") - 1
        end = int(ends[last]) if last >= 0 and ends[last] > start else int(ends[np.searchsorted(ends, start, "right")])
        cut.append((start, end))
        start = end
    return cut
