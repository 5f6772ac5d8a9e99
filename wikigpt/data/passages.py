"""Where the training text says the same: the longest passage that a row of tokens repeats, and the article that it is from.

    shards ──> suffix arrays, dataset/<name>/passages/ ──> binary search ──> Match ──> article, revision, link

A suffix array lists the positions of a text in the order of what begins there, so that all places where a passage begins
stand side by side (Manber & Myers 1990). It takes four bytes a token on the disk and is read through a memory map.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from wikigpt.config import remove_folder, write_json
from wikigpt.data.lookup import article_at
from wikigpt.data.shards import DataFolder
from wikigpt.errors import ConfigError, DataError

BLOCK = 2**26  # tokens that are sorted at once: 30 bytes each in memory while it lasts
FOLDER, CONTENT = "passages", "passages.json"


@dataclass(frozen=True)
class Match:
    """From the id `start` on, `length` ids stand in the training text too: in a shard, from a position on."""

    start: int
    length: int
    data: DataFolder
    shard: str
    position: int

    @property
    def end(self) -> int:
        return self.start + self.length

    def article(self) -> dict[str, Any]:
        """The row of articles.parquet of where it stands (one place of perhaps many)."""
        return article_at(self.data, self.shard, self.position).row


class Block:
    """Whole documents of a shard and their suffix array."""

    def __init__(self, folder: Path, shard: np.ndarray, record: dict[str, Any]) -> None:
        self.shard, self.first = str(record["shard"]), int(record["start"])
        self.tokens = shard[self.first : record["end"]]
        self.suffixes = np.memmap(folder / record["file"], "<u4", mode="r")
        self.order = self.tokens.dtype.newbyteorder(">")  # bytes compare as tokens do

    def longest(self, ids: np.ndarray) -> tuple[int, int]:
        """How many of the first ids stand here in a row, and where in the shard."""
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
        return length, self.first + int(self.suffixes[-place])

    def _text(self, place: int, length: int) -> bytes:
        position = int(self.suffixes[place])
        return self.tokens[position : position + length].astype(self.order).tobytes()

    def _common(self, place: int, ids: np.ndarray) -> int:
        position = int(self.suffixes[place])
        here = self.tokens[position : position + len(ids)]
        other = np.flatnonzero(here != ids[: len(here)])
        return int(other[0]) if len(other) else len(here)


class Passages:
    """The training text of a data folder, ready to be searched. Makes what is needed for it where it is not there: about a
    minute for each 100 million tokens. Raises DataError where that cannot be written."""

    def __init__(self, data: DataFolder) -> None:
        self.data, folder = data, data.path / FOLDER
        content = _read_content(folder)
        if content.get("data") != data.hash:
            _build(data, folder)
            content = _read_content(folder)
        dtype = np.dtype(data.manifest["dtype"])
        shards = {name: np.memmap(data.path / name, dtype, mode="r") for name in _shards(data)}
        self.blocks = [Block(folder, shards[record["shard"]], record) for record in content["blocks"]]

    def longest(self, ids: Sequence[int] | np.ndarray) -> Match | None:
        """The longest beginning of some ids that the training text holds; None where not even the first is there."""
        row = np.asarray(ids)
        best: Match | None = None
        for block in self.blocks:
            length, position = block.longest(row)
            if length > (best.length if best else 0):
                best = Match(0, length, self.data, block.shard, position)
        return best


def matches(ids: Sequence[int] | np.ndarray, passages: Sequence[Passages], shortest: int = 1) -> list[Match]:
    """Every passage of at least `shortest` ids that the training text holds too, but for those inside a longer one; in
    order. `passages`: of every data folder."""
    row, found = np.asarray(ids, np.int64), list[Match]()
    for start in range(len(row) - shortest + 1):
        here = [match for folder in passages if (match := folder.longest(row[start:])) is not None]
        best = max(here, key=lambda match: match.length, default=None)
        if best is None or best.length < shortest or (found and start + best.length <= found[-1].end):
            continue
        found.append(Match(start, best.length, best.data, best.shard, best.position))
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


def _read_content(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / CONTENT).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _build(data: DataFolder, folder: Path) -> None:
    """Writes the suffix arrays of all training shards, and takes the place of older ones when all are there."""
    try:
        from pydivsufsort import divsufsort
    except ImportError as error:
        raise ConfigError("To search the training text takes pydivsufsort.", "Run: pip install pydivsufsort") from error
    dtype, blocks = np.dtype(data.manifest["dtype"]), list[dict[str, Any]]()
    logger.info(f"indexing the training text of {data.name}: {data.training_tokens:,} tokens, once")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        remove_folder(partial)
        partial.mkdir()
        for name in _shards(data):
            tokens = np.memmap(data.path / name, dtype, mode="r")
            for start, end in _whole_documents(np.fromfile(data.path / f"{name}.index", "<u8").astype(np.int64)):
                file = f"{name}.{len(blocks)}"
                text = tokens[start:end].astype(dtype.newbyteorder(">")).view(np.uint8)
                positions = divsufsort(text)
                whole = positions[positions % dtype.itemsize == 0] // dtype.itemsize
                whole.astype("<u4").tofile(partial / file)
                blocks.append({"shard": name, "start": start, "end": end, "file": file})
        write_json(partial / CONTENT, {"data": data.hash, "blocks": blocks})
        remove_folder(folder)
        partial.replace(folder)
    except OSError as error:
        problem = f"The index of {data.path} cannot be written ({error.strerror})."
        raise DataError(problem, "Make room or copy the data to where it can be.") from error


def _whole_documents(ends: np.ndarray) -> list[tuple[int, int]]:
    """Cuts a shard after documents, into parts of at most BLOCK tokens (more where a single document is longer)."""
    cut, start = [], 0
    while start < (ends[-1] if len(ends) else 0):
        last = np.searchsorted(ends, start + BLOCK, side="right") - 1
        end = int(ends[last]) if last >= 0 and ends[last] > start else int(ends[np.searchsorted(ends, start, "right")])
        cut.append((start, end))
        start = end
    return cut
