"""From a source to a data folder.

    source ──> tidy ──> filter ──> split ──┬──> train a BPE (on the training split only)
                     (kept in segments)    └──> encode on all cores ──> shards, index, manifest

Everything is written into `.<name>.partial` and renamed when whole, so what carries the final name is finished. What an
interrupted preparation has done stays there, and the same command goes on behind it: each segment of clean text has a
done-marker, and so has each that is encoded. The same source gives the same bytes, however many workers there are and
however often it was interrupted.
"""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from wikigpt import tokenizer as tokenizers
from wikigpt.config import ModelConfig, remove_folder, write_json
from wikigpt.data.article import SALT, SPLITS, Article, document
from wikigpt.data.encode import encode, forget, write_articles
from wikigpt.data.filters import read_titles
from wikigpt.data.segments import EXAMPLES, Rules, Segment, read_all
from wikigpt.data.shards import MANIFEST, DataFolder, file_hash, token_dtype, write_manifest
from wikigpt.data.sources import Source, printable
from wikigpt.errors import DataError
from wikigpt.runs import locked
from wikigpt.tokenizer import Tokenizer, gpt2, train_bpe

BPE_SAMPLE = 200 * 2**20  # bytes of text that a BPE is trained on at the most
WORK = "work"  # inside a folder that is not finished


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the bytes of a data folder, beside its source."""

    tokenizer: str  # gpt2, bpe, or the path of a tokenizer.json
    vocab_size: int  # of a bpe
    held_out: float  # share of articles for validation, and as many again for test
    hold_out: Path | None = None  # titles of articles that are kept out altogether
    max_articles: int | None = None  # the first so many


def bpe_vocab_size(model: ModelConfig) -> int:
    """How many ids suit a model: below 30 million parameters the output head would outweigh everything else."""
    return 8192 if model.n_parameters < 30e6 else 32768


def prepare(source: Source, settings: PrepareSettings, folder: Path, workers: int, fresh: bool = False) -> DataFolder:
    """Makes the data folder, or returns the one that is there if it was made from the same source and settings. Goes on
    where the same preparation was interrupted.

    Raises DataError where another one is there (unless `fresh`), or where the source has nothing to train on.
    """
    busy = DataError(f"Another process is preparing {folder}.", "Wait for it, or give another name with --name.")
    with locked(folder, busy):
        asked = _asked(source, settings)
        if folder.exists() and not (folder / MANIFEST).exists():
            raise DataError(f"{folder} is there and is no data folder.", "Move it away, or give another with --name.")
        if folder.exists() and not fresh:
            return _existing(folder, asked)
        partial = _partial(folder, asked)
        if not (partial / MANIFEST).exists():
            write_manifest(partial, asked | _make(source, settings, partial, workers), leave_out=WORK)
        shutil.rmtree(partial / WORK, ignore_errors=True)
        old = folder.with_name(f".{folder.name}.old")
        if folder.exists():  # it goes when the new one is in its place
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        return DataFolder(folder)


def _partial(folder: Path, asked: dict[str, Any]) -> Path:
    """Where the folder is made: what an interrupted preparation of the same left, else an empty place."""
    partial = folder.with_name(f".{folder.name}.partial")
    mark = partial / WORK / "asked.json"
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (partial / MANIFEST, mark) if path.exists()]
    if any(_same(record, asked) for record in records):  # whole but for its name, or not yet
        logger.info(f"continuing an interrupted preparation of {folder}")
        return partial
    if mark.exists() and _read_alike(records[-1], asked):
        logger.info(f"continuing with what was read for {folder}; the tokens are made anew")
        forget(partial / WORK)
        for path in partial.iterdir():
            if path.is_file():
                path.unlink()
            elif path.name != WORK:
                shutil.rmtree(path)
    else:
        if records:
            logger.warning(
                f"removing what an interrupted preparation of {folder} from elsewhere or with other flags left"
            )
        remove_folder(partial)
        (partial / WORK).mkdir(parents=True)
    write_json(mark, asked)
    return partial


def _read_alike(record: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether two preparations read the same articles, and may only encode them otherwise."""

    def reading(request: dict[str, Any]) -> dict[str, Any]:
        settings = {k: v for k, v in request["settings"].items() if k not in ("tokenizer", "vocab_size")}
        return {**request, "settings": settings}

    return reading(record) == reading(asked)


def _same(record: dict[str, Any], asked: dict[str, Any]) -> bool:
    return all(record.get(name) == value for name, value in asked.items())


def _make(source: Source, settings: PrepareSettings, partial: Path, workers: int) -> dict[str, Any]:
    """All files but the manifest, whose content it returns."""
    work = partial / WORK
    columns = (
        *(TextColumn("{task.description:10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()),
        *(TextColumn("{task.fields[articles]}"), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        segments = _read(source, settings, work, workers, progress)
        counts = sum((segment.counts() for segment in segments), Counter[str]())
        dropped = sum((Counter(segment.dropped) for segment in segments), Counter[str]())
        if missing := [split for split in SPLITS if not counts[f"{split} articles"]]:
            what = "" if len(missing) == 3 else f" for {' and '.join(missing)}"
            gone = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items())
            problem = f"{source.origin} has no article{what}{f' (dropped: {gone})' if gone else ''}."
            raise DataError(problem, "Give it more articles, or a larger --held_out.")
        if not (partial / "tokenizer" / tokenizers.TOKENIZER).exists():
            _tokenizer(settings, segments, counts).save(partial / "tokenizer")
        task = progress.add_task("encoding", total=sum(counts[f"{split} bytes"] for split in SPLITS), articles="")
        tokens = encode(segments, partial, work, workers, lambda more: progress.advance(task, more))
    write_articles(segments, partial, work)
    tokenizer = tokenizers.load(partial / "tokenizer")
    splits = {
        s: {"articles": counts[f"{s} articles"], "tokens": tokens[s], "bytes": counts[f"{s} bytes"]} for s in SPLITS
    }
    return _made(tokenizer) | {"splits": splits, "dropped": dict(sorted(dropped.items()))} | _shown(source, segments)


def _read(source: Source, settings: PrepareSettings, work: Path, workers: int, progress: Progress) -> list[Segment]:
    total = sum(file.bytes for file in source.files)
    task = progress.add_task("reading", total=total, articles="")
    start, read, articles, said = time.monotonic(), 0, 0, time.monotonic()

    def watch(more_bytes: int, more_articles: int) -> None:
        nonlocal read, articles, said
        read, articles = read + more_bytes, articles + more_articles
        if not progress.console.is_terminal and time.monotonic() - said > 60:  # in a log, a line each minute
            said = time.monotonic()
            logger.info(f"read {read / 1e6:,.0f} of {total / 1e6:,.0f} MB, {articles:,} articles")
        rate = articles / max(time.monotonic() - start, 1e-3)
        progress.update(task, completed=min(read, total), articles=f"{articles:,} articles, {rate:,.0f}/s")

    titles = read_titles(settings.hold_out) if settings.hold_out else frozenset()
    rules = Rules(settings.held_out, titles, settings.max_articles)
    segments = read_all(source, rules, work, workers, watch)
    progress.update(task, completed=total)
    return segments


def _shown(source: Source, segments: list[Segment]) -> dict[str, Any]:
    """What the report shows beside numbers: titles of articles that were dropped, and some before and after cleaning."""
    examples: dict[str, list[str]] = {}
    for segment in segments:
        for reason, titles in segment.examples.items():
            kept = examples.setdefault(reason, [])
            kept += titles[: EXAMPLES - len(kept)]
    shown = source.before_and_after() if source.before_and_after else []
    return {"examples": examples, "before_and_after": shown}


def _asked(source: Source, settings: PrepareSettings) -> dict[str, Any]:
    files = [{"name": printable(f.path.name)} | (f.hashes or {"sha256": file_hash(f.path)}) for f in source.files]
    kept = ("name", "wiki", "origin", "licence", "attribution", "cleaner")
    made_of = asdict(settings) | {"hold_out": file_hash(settings.hold_out) if settings.hold_out else None}
    if settings.tokenizer not in ("gpt2", "bpe"):
        made_of["tokenizer"] = f"sha256 {tokenizers.load(Path(settings.tokenizer), foreign=True).sha256}"
    return {
        "format": 1,
        "wiki": source.wiki,
        "source": {name: getattr(source, name) for name in kept} | {"files": files},
        "settings": made_of,
        "salt": SALT,
    }


def _made(tokenizer: Tokenizer) -> dict[str, Any]:
    made = {"name": tokenizer.name, "vocab_size": tokenizer.vocab_size, "end_of_text": tokenizer.end_of_text}
    dtype = token_dtype(tokenizer.vocab_size).name
    return {"tokenizer": made | {"sha256": tokenizer.sha256}, "dtype": dtype}


def _existing(folder: Path, asked: dict[str, Any]) -> DataFolder:
    data = DataFolder(folder)
    if not _same(data.manifest, asked):
        problem = f"{folder} was made from another source or with other settings."
        raise DataError(problem, "Add --fresh to make it anew, or --name for another folder.")
    logger.info(f"{folder} is prepared already; --fresh makes it anew")
    return data


def _tokenizer(settings: PrepareSettings, segments: list[Segment], counts: Counter[str]) -> Tokenizer:
    if settings.tokenizer == "gpt2":
        return gpt2()
    if settings.tokenizer == "bpe":
        return train_bpe(_training_texts(segments, counts), settings.vocab_size)
    return tokenizers.load(Path(settings.tokenizer))


def _training_texts(segments: list[Segment], counts: Counter[str]) -> Iterator[str]:
    """Documents of the training split, thinned out evenly (by a seeded draw) to at most BPE_SAMPLE bytes."""
    share = BPE_SAMPLE / max(1, counts["train bytes"])
    draw = np.random.Generator(np.random.PCG64(0))
    for segment in segments:
        for split, line in segment.lines():
            if split == "train" and (share >= 1 or draw.random() < share):
                yield document(Article(**json.loads(line)))


def default_workers() -> int:
    """One per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_tokenizer(wiki: str, source: str) -> str:
    """GPT-2's vocabulary for English, an own one otherwise and for the small sample, whose small models need it."""
    return "gpt2" if wiki in ("en", "simple") and source != "sample" else "bpe"


def default_vocab_size(source: str) -> int:
    """Of a BPE, where no model is named. The sample is for three minutes on a CPU: a smaller head means twice the steps."""
    return 2048 if source == "sample" else 8192


def default_held_out(source: str) -> float:
    """Share of articles for validation, and as many for test: 1%, of the small sample 3%."""
    return 0.03 if source == "sample" else 0.01
