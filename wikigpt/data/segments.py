"""From a source to clean text, kept on the disk in segments that an interrupted preparation goes on behind.

source ──> repair ──> filter ──> split ──> work/00000-00000.jsonl and its done-marker 00000-00000.json
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from rich.progress import Progress

from wikigpt.config import write_json
from wikigpt.data.article import SPLITS, Article, document, repaired, split_key, split_of
from wikigpt.data.filters import Filter
from wikigpt.data.sources import Source

SEGMENT = 32 * 2**20  # characters of clean text between done-markers
PART = 32 * 2**20  # bytes of input files that share a set of shards, where several are so small


@dataclass(frozen=True)
class Segment:
    """Clean text of one part of the input, one JSON line per article, and its done-marker."""

    path: Path  # work/00000-00000.jsonl
    file: int  # number of the part, and of its shards
    read: int  # articles of the part that were read up to its end, dropped ones too
    last: bool  # of its part
    counts: dict[str, int]  # articles and bytes by split
    dropped: dict[str, int]  # articles by reason

    def __iter__(self) -> Iterator[tuple[str, Article]]:
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                yield record.pop("split"), Article(**record)

    @property
    def bytes(self) -> int:
        return sum(self.counts.get(f"{split} bytes", 0) for split in SPLITS)


def clean(source: Source, held_out: float, work: Path, progress: Progress) -> Iterator[Segment]:
    """Tidies, filters and splits all files; keeps what passes. Segments that are there already are taken as they are."""
    parts = _parts(source.files)
    sizes = [sum(path.stat().st_size for path in part) for part in parts]
    task = progress.add_task("reading", total=sum(sizes))
    keep = Filter(wikipedia=bool(source.wiki))
    before = 0  # bytes of the parts before
    for file, part in enumerate(parts):
        articles: Iterator[tuple[int, Article]] | None = None
        number, read, last = 0, 0, False
        while not last:
            path = work / f"{file:05d}-{number:05d}.jsonl"
            if segment := _done(path):
                for _, article in segment:
                    keep.remember(article)
            else:
                articles = articles or islice(_articles(source, part, before), read, None)
                segment = _write_segment(source, articles, held_out, keep, path, file, read, progress)
            yield segment
            number, read, last = number + 1, segment.read, segment.last
        before += sizes[file]
        progress.update(task, completed=before)


def _parts(files: Sequence[Path]) -> list[list[Path]]:
    """Files that share a set of shards: each alone, but small ones together, or a folder of a hundred thousand notes would
    become six times as many files."""
    parts: list[list[Path]] = []
    size = 0
    for path in files:
        size += path.stat().st_size
        if not parts or size > PART:
            parts.append([])
            size = path.stat().st_size
        parts[-1].append(path)
    return parts


def _articles(source: Source, part: list[Path], before: int) -> Iterator[tuple[int, Article]]:
    """What stands in the files of a part, with the bytes that were read so far, `before` it included."""
    for path in part:
        for position, article in source.read(path):
            yield before + position, article
        before += path.stat().st_size


def _done(path: Path) -> Segment | None:
    """The segment at a path, if it is finished."""
    mark = path.with_suffix(".json")
    return Segment(path, **json.loads(mark.read_text(encoding="utf-8"))) if mark.exists() else None


def _write_segment(
    source: Source,
    articles: Iterator[tuple[int, Article]],
    held_out: float,
    keep: Filter,
    path: Path,
    file_number: int,
    read: int,
    progress: Progress,
) -> Segment:
    """Reads articles until the segment is full or its part ends."""
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    size, last = 0, True
    with open(path, "w", encoding="utf-8") as file:
        for position, article in articles:
            read += 1
            progress.update(progress.task_ids[0], completed=position)
            article = Article(**{name: repaired(value) for name, value in asdict(article).items()})
            if reason := keep.reason_to_drop(article):
                dropped[reason] += 1
                continue
            split = split_of(split_key(article, source.wiki, source.name), held_out)
            counts[f"{split} articles"] += 1
            counts[f"{split} bytes"] += len(document(article).encode())
            file.write(json.dumps({"split": split} | asdict(article), ensure_ascii=False) + "\n")
            size += len(article.text)
            if size >= SEGMENT:
                last = False
                break
        file.flush()
        os.fsync(file.fileno())
    segment = Segment(path, file_number, read, last, dict(counts), dict(dropped))
    write_json(path.with_suffix(".json"), {k: v for k, v in asdict(segment).items() if k != "path"})
    return segment
