"""Which article a token came from, and which tokens an article became.

title | page id | split:position  ──>  articles.parquet  ──>  shard, offset, length  ──>  ids
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from wikigpt.data.article import SPLITS
from wikigpt.data.filters import plain_title
from wikigpt.data.shards import DataFolder
from wikigpt.errors import DataError


@dataclass(frozen=True)
class Found:
    """A row of the article index, and the article's tokens (end-of-text is the last)."""

    row: dict[str, Any]  # id, revision, title, url, split, shard, offset, length
    ids: np.ndarray
    token: int | None = None  # which of them was asked for


def look_up(data: DataFolder, what: str) -> Found:
    """The article that `what` names: a title, a page id, or a position in a split (train:12345; of training where only a
    number is given that is no page's id). Raises DataError where there is none."""
    if position := re.fullmatch(rf"({'|'.join(SPLITS)}):([0-9]+)", what):
        return _at(data, position[1], int(position[2]))
    for column, value in (("id", what), ("title", what), ("title", plain_title(what))):
        if value and (rows := _rows(data, [(column, "=", value)])):
            return _found(data, rows[0])
    if what.isdecimal():
        return _at(data, "train", int(what))
    raise DataError(f"{data.path} has no article {what!r}.", "Give a title, a page id, or a place such as train:12345.")


def has_title(data: DataFolder, title: str) -> bool:
    """Whether an article of a folder is called so."""
    return any(_rows(data, [("title", "=", form)]) for form in {title, plain_title(title)})


def _rows(data: DataFolder, filters: list[tuple[str, str, Any]]) -> list[dict[str, Any]]:
    return list(pq.read_table(data.path / "articles.parquet", filters=filters).to_pylist())


def articles_at(data: DataFolder, places: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """The rows of the articles that hold the tokens at some positions of shards; the index is read once."""
    ends = {
        shard: np.fromfile(data.path / f"{shard}.index", "<u8").astype(np.int64) for shard in {s for s, _ in places}
    }
    starts = []
    for shard, position in places:
        document = int(np.searchsorted(ends[shard], position, side="right"))
        starts.append((shard, int(ends[shard][document - 1]) if document else 0))
    wanted = [("shard", "in", list(ends)), ("offset", "in", [start for _, start in starts])]
    rows = {(row["shard"], row["offset"]): row for row in (_rows(data, wanted) if places else [])}
    return [rows[place] for place in starts]


def _at(data: DataFolder, split: str, position: int) -> Found:
    """The article that holds a token of a split, counted over all its shards."""
    size, left = np.dtype(data.manifest["dtype"]).itemsize, position
    for name in data.shards(split):
        tokens = int(data.manifest["files"][name]["bytes"]) // size
        if left < tokens:
            (row,) = articles_at(data, [(name, left)])
            return _found(data, row, left - row["offset"])
        left -= tokens
    there = data.manifest["splits"][split]["tokens"]
    raise DataError(f"{split} has {there:,} tokens; there is no number {position:,}.", "They are counted from 0.")


def _found(data: DataFolder, row: dict[str, Any], token: int | None = None) -> Found:
    dtype = np.dtype(data.manifest["dtype"])
    ids = np.fromfile(data.path / row["shard"], dtype, row["length"], offset=row["offset"] * dtype.itemsize)
    return Found(row, ids.astype(np.int64), token)
