"""From segments of clean text to shards and the article index.

segment ──> ids of its documents, in work/ (a process each) ──> appended to the shards of its part, in order
        ──> and a row for each article                      ──> articles.parquet
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wikigpt import tokenizer as tokenizers
from wikigpt.config import write_json
from wikigpt.data.article import SPLITS, document
from wikigpt.data.processes import in_order
from wikigpt.data.segments import Segment
from wikigpt.data.shards import ShardWriter, token_dtype
from wikigpt.tokenizer import Tokenizer

SMALL = 16 * 2**20  # bytes of text that one process encodes sooner than others have started
ROWS = 20_000  # of the article index that are written at once

NAMED = ("id", "revision", "title", "url")
ARTICLES = pa.schema(
    [(name, pa.string()) for name in (*NAMED, "split", "shard")] + [("offset", pa.int64()), ("length", pa.int64())]
)


def encode(
    segments: Sequence[Segment], out: Path, work: Path, workers: int, watch: Callable[[int], None]
) -> Counter[str]:
    """Encodes every kept article with the tokenizer in `out`; returns the tokens of each split. Goes on behind what is done.
    `watch` is told of bytes of text that were encoded."""
    tokenizer = tokenizers.load(out / "tokenizer")
    dtype = token_dtype(tokenizer.vocab_size)
    # How many segments are in the shards, and how many documents those of the last one's part have then.
    mark = work / "encoded.json"
    done = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else {}
    tokens: Counter[str] = Counter()
    number = 0
    encoded = _encoded(segments[done.get("segments", 0) :], out / "tokenizer", tokenizer.sha256, workers)
    for file, part in groupby(segments, key=lambda segment: segment.file):
        documents = done.get("documents", {}) if done.get("file") == file else {}
        with ExitStack() as open_shards:
            shards: dict[str, ShardWriter] = {}
            for segment in part:
                number += 1
                if number > done.get("segments", 0):
                    for split in () if shards else SPLITS:
                        shards[split] = ShardWriter(out, split, file, dtype, documents.get(split, 0))
                        open_shards.callback(shards[split].close)
                    _append(next(encoded), shards)
                    documents = {split: shard.documents for split, shard in shards.items()}
                    write_json(mark, {"segments": number, "file": file, "documents": documents})
                    for split in SPLITS:  # now that nobody will ask for them again
                        _ids_of(segment, split).unlink()
                watch(sum(count for key, count in segment.counts().items() if key.endswith("bytes")))
        for split in SPLITS:
            tokens[split] += (out / f"{split}_{file:05d}.bin").stat().st_size // dtype.itemsize
    return tokens


def _encoded(segments: Sequence[Segment], folder: Path, sha256: str, workers: int) -> Iterator[Segment]:
    """The segments in order, each when its ids are there."""
    if sum(segment.path.stat().st_size for segment in segments if not _rows_of(segment).exists()) < SMALL:
        workers = 1
    return (
        segment for segment, _ in in_order(partial(encode_segment, folder=folder, sha256=sha256), segments, workers)
    )


def forget(work: Path) -> None:
    """Removes what was encoded, but not what was read."""
    for path in [*work.glob("*.parquet"), *work.glob("*.ids"), work / "encoded.json"]:
        path.unlink(missing_ok=True)


def encode_segment(segment: Segment, folder: Path, sha256: str) -> None:
    """Writes the ids of a segment's documents, those of each split into a file, and last of all a row for each article."""
    if _rows_of(segment).exists():
        return
    tokenizer = _tokenizer(folder, sha256)
    dtype = token_dtype(tokenizer.vocab_size)
    rows = []
    with ExitStack() as stack:
        files = {split: stack.enter_context(open(_ids_of(segment, split), "wb")) for split in SPLITS}
        for split, article in segment:
            ids = np.append(tokenizer.encode(document(article)), tokenizer.end_of_text).astype(dtype)
            files[split].write(ids.tobytes())
            rows.append({name: getattr(article, name) for name in NAMED} | {"split": split, "length": len(ids)})
    partial = _rows_of(segment).with_suffix(".part")
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema([ARTICLES.field(n) for n in (*NAMED, "split", "length")])), partial
    )
    partial.replace(_rows_of(segment))


@cache
def _tokenizer(folder: Path, sha256: str) -> Tokenizer:
    """Loaded once in a process; by its hash too, for another may come to lie in the same folder."""
    return tokenizers.load(folder)


def _rows_of(segment: Segment) -> Path:
    return segment.path.with_suffix(".parquet")


def _ids_of(segment: Segment, split: str) -> Path:
    return segment.path.with_suffix(f".{split}.ids")


def _append(segment: Segment, shards: dict[str, ShardWriter]) -> None:
    """Puts the ids of a segment behind those that the shards have."""
    rows = pq.read_table(_rows_of(segment), columns=["split", "length"])
    splits, lengths = rows["split"].to_numpy(zero_copy_only=False), rows["length"].to_numpy()
    for split, shard in shards.items():
        shard.extend(_ids_of(segment, split), lengths[splits == split])
        shard.flush()


def write_articles(segments: Sequence[Segment], out: Path, work: Path) -> None:
    """The article index: where each comes from, and where its tokens lie."""
    with pq.ParquetWriter(work / "articles.parquet", ARTICLES) as file:
        waiting: list[pa.Table] = []
        for part, group in groupby(segments, key=lambda segment: segment.file):
            places = dict.fromkeys(SPLITS, 0)
            for segment in group:
                waiting.append(_placed(pq.read_table(_rows_of(segment)), part, places))
                if sum(table.num_rows for table in waiting) >= ROWS:
                    # Rows are grouped by number, not by segment, whose size is no matter of the result.
                    table = pa.concat_tables(waiting)
                    whole = table.num_rows // ROWS * ROWS
                    file.write_table(table.slice(0, whole).combine_chunks(), row_group_size=ROWS)
                    waiting = [table.slice(whole)]
        if rest := [table for table in waiting if table.num_rows]:
            file.write_table(pa.concat_tables(rest).combine_chunks(), row_group_size=ROWS)
    (work / "articles.parquet").replace(out / "articles.parquet")


def _placed(rows: pa.Table, part: int, places: dict[str, int]) -> pa.Table:
    """Rows with their shards and offsets; `places` are where the shards of the part go on."""
    splits, lengths = rows["split"].to_numpy(zero_copy_only=False), rows["length"].to_numpy()
    offsets = np.zeros(len(lengths), np.int64)
    for split in SPLITS:
        mine = splits == split
        ends = places[split] + np.cumsum(lengths[mine])
        offsets[mine] = ends - lengths[mine]
        places[split] = int(ends[-1]) if len(ends) else places[split]
    shards = pa.array([f"{split}_{part:05d}.bin" for split in splits], pa.string())
    columns = {name: rows[name] for name in (*NAMED, "split")} | {"shard": shards, "offset": offsets, "length": lengths}
    return pa.table(columns, schema=ARTICLES)
