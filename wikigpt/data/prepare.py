"""From a source to a data folder.

    source ──> tidy ──> filter ──> split ──┬──> train a BPE (on the training split only)
                     (kept on disk)        └──> encode on all cores ──> shards, index, manifest

Everything is written into `<name>.partial` and renamed when whole, so what carries the final name is finished. The same
source gives the same bytes, however many workers there are.
"""

import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wikigpt.config import ModelConfig
from wikigpt.data.article import SALT, SPLITS, Article, document, repaired, split_key, split_of
from wikigpt.data.filters import Filter
from wikigpt.data.shards import MANIFEST, DataFolder, ShardWriter, file_hash, token_dtype, write_manifest
from wikigpt.data.sources import Source
from wikigpt.errors import DataError
from wikigpt.tokenizer import Tokenizer, gpt2, train_bpe

BPE_SAMPLE = 10**9  # bytes of text that a BPE is trained on at the most
CHUNK = 2**20  # characters of text handed to a worker at once


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the bytes of a data folder, beside its source."""

    tokenizer: str  # gpt2 or bpe
    vocab_size: int  # of a bpe
    held_out: float  # share of articles for validation, and as many again for test


def bpe_vocab_size(model: ModelConfig) -> int:
    """How many ids suit a model: below 30 million parameters the output head would outweigh everything else."""
    return 8192 if model.n_parameters < 30e6 else 32768


def prepare(source: Source, settings: PrepareSettings, folder: Path, workers: int, fresh: bool = False) -> DataFolder:
    """Makes the data folder, or returns the one that is there if it was made from the same source and settings.

    Raises DataError where another one is there (unless `fresh`), or where the source has nothing to train on.
    """
    asked = _asked(source, settings)
    if folder.exists() and not (folder / MANIFEST).exists():
        raise DataError(f"{folder} is there and is no data folder.", "Move it away, or give another name with --name.")
    if folder.exists() and not fresh:
        return _existing(folder, asked)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    clean = partial / "clean"
    clean.mkdir(parents=True)
    with Progress(
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        counts, dropped = _clean(source, settings.held_out, clean, progress)
        if missing := [split for split in SPLITS if not counts[f"{split} articles"]]:
            problem = f"{source.origin} has no article for {' and '.join(missing)}."
            raise DataError(problem, "Give it more articles, or a larger --held_out.")
        tokenizer = (
            gpt2() if settings.tokenizer == "gpt2" else train_bpe(_training_texts(clean, counts), settings.vocab_size)
        )
        tokenizer.save(partial / "tokenizer")
        _encode(source, clean, partial, tokenizer, workers, counts, progress)
    shutil.rmtree(clean)
    splits = {s: {k: counts[f"{s} {k}"] for k in ("articles", "tokens", "bytes")} for s in SPLITS}
    write_manifest(partial, {**asked, **_made(tokenizer), "splits": splits, "dropped": dict(sorted(dropped.items()))})
    if folder.exists():  # the old one goes when the new one is in its place
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)
    return DataFolder(folder)


def _asked(source: Source, settings: PrepareSettings) -> dict[str, Any]:
    files = [{"name": path.name, "sha256": file_hash(path)} for path in source.files]
    kept = ("name", "wiki", "origin", "licence", "attribution", "cleaner")
    return {
        "format": 1,
        "wiki": source.wiki,
        "source": {name: getattr(source, name) for name in kept} | {"files": files},
        "settings": asdict(settings),
        "salt": SALT,
    }


def _made(tokenizer: Tokenizer) -> dict[str, Any]:
    made = {"name": tokenizer.name, "vocab_size": tokenizer.vocab_size, "end_of_text": tokenizer.end_of_text}
    dtype = token_dtype(tokenizer.vocab_size).name
    return {"tokenizer": made | {"sha256": tokenizer.sha256}, "dtype": dtype}


def _existing(folder: Path, asked: dict[str, Any]) -> DataFolder:
    data = DataFolder(folder)
    if any(data.manifest.get(name) != value for name, value in asked.items()):
        problem = f"{folder} was made from another source or with other settings."
        raise DataError(problem, "Add --fresh to make it anew, or --name for another folder.")
    logger.info(f"{folder} is prepared already; --fresh makes it anew")
    return data


def _clean(source: Source, held_out: float, clean: Path, progress: Progress) -> tuple[Counter[str], Counter[str]]:
    """Tidies, filters and splits; keeps what passes as one JSON line per article, one file per input file."""
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    keep = Filter()
    task = progress.add_task("reading", total=None)
    for number, path in enumerate(source.files):
        with open(clean / f"{number:05d}.jsonl", "w", encoding="utf-8") as file:
            for article in source.read(path):
                progress.advance(task)
                article = replace(article, title=repaired(article.title), text=repaired(article.text))
                if reason := keep.reason_to_drop(article):
                    dropped[reason] += 1
                    continue
                split = split_of(split_key(article, source.wiki, source.name), held_out)
                counts[f"{split} articles"] += 1
                counts[f"{split} bytes"] += len(document(article).encode())
                file.write(json.dumps({"split": split} | asdict(article), ensure_ascii=False) + "\n")
    progress.update(task, total=progress.tasks[task].completed)
    return counts, dropped


def _cleaned(file: IO[str]) -> Iterator[tuple[str, Article]]:
    for line in file:
        record = json.loads(line)
        yield record.pop("split"), Article(**record)


def _training_texts(clean: Path, counts: Counter[str]) -> Iterator[str]:
    """Documents of the training split, thinned out evenly (by a seeded draw) to at most BPE_SAMPLE bytes."""
    share = BPE_SAMPLE / max(1, counts["train bytes"])
    draw = np.random.Generator(np.random.PCG64(0))
    for path in sorted(clean.iterdir()):
        with open(path, encoding="utf-8") as file:
            for split, article in _cleaned(file):
                if split == "train" and (share >= 1 or draw.random() < share):
                    yield document(article)


def _encode(
    source: Source, clean: Path, out: Path, tokenizer: Tokenizer, workers: int, counts: Counter[str], progress: Progress
) -> None:
    """Encodes every kept article into the shards of its file and split, in the order of the source."""
    dtype = token_dtype(tokenizer.vocab_size)
    task = progress.add_task("encoding", total=sum(counts[f"{split} articles"] for split in SPLITS))
    with pq.ParquetWriter(out / "articles.parquet", ARTICLES) as table:
        for number in range(len(source.files)):
            shards = {split: ShardWriter(out, split, number, dtype) for split in SPLITS}
            with open(clean / f"{number:05d}.jsonl", encoding="utf-8") as file:
                for chunk, encoded in _encoded_in_order(_chunks(file), tokenizer, workers):
                    rows = []
                    for (split, article), ids in zip(chunk, encoded, strict=True):
                        start = shards[split].append(ids)
                        counts[f"{split} tokens"] += len(ids)
                        rows.append(_row(article, split, shards[split].name, start, len(ids)))
                    table.write_table(pa.Table.from_pylist(rows, ARTICLES))
                    progress.advance(task, len(chunk))
            for shard in shards.values():
                shard.close()


ARTICLES = pa.schema(
    [(name, pa.string()) for name in ("id", "revision", "title", "url", "split", "shard")]
    + [("offset", pa.int64()), ("length", pa.int64())]
)


def _row(article: Article, split: str, shard: str, offset: int, length: int) -> dict[str, Any]:
    named = {name: getattr(article, name) for name in ("id", "revision", "title", "url")}
    return named | {"split": split, "shard": shard, "offset": offset, "length": length}


Chunk = list[tuple[str, Article]]


def _chunks(file: IO[str]) -> Iterator[Chunk]:
    chunk: Chunk = []
    size = 0
    for split, article in _cleaned(file):
        chunk.append((split, article))
        size += len(article.text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _encoded_in_order(
    chunks: Iterator[Chunk], tokenizer: Tokenizer, workers: int
) -> Iterator[tuple[Chunk, list[np.ndarray]]]:
    """Encodes chunks on several threads (tiktoken lets go of Python's lock) and hands them back in order, with at most
    two chunks per worker in memory."""

    def encode(chunk: Chunk) -> list[np.ndarray]:
        return [np.append(tokenizer.encode(document(article)), tokenizer.end_of_text) for _, article in chunk]

    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Chunk, Future[list[np.ndarray]]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(encode, chunk)))
            if len(waiting) >= 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


def default_workers() -> int:
    """One per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_tokenizer(wiki: str, source: str) -> str:
    """GPT-2's vocabulary for English, an own one otherwise and for the small sample, whose small models need it."""
    return "gpt2" if wiki == "en" and source != "sample" else "bpe"


def default_held_out(source: str) -> float:
    """Share of articles for validation, and as many for test: 1%, of the small sample 3%."""
    return 0.03 if source == "sample" else 0.01
