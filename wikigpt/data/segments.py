"""From a source to clean text on the disk, in pieces that any number of processes share out, and that an interrupted
preparation goes on behind.

    run(rank, world_size)   files ──> parts ──> pieces ──> read, clean, filter ──> work/00000-00000-000.jsonl, .rows, .json
    select()                drops what came before (in the order of the source), gives each article its split

The first is pure: what a piece becomes depends on the piece alone, and its done-marker (.json) is written last. The second
looks at 29 bytes of each article. So the result is the same, however many processes there were and whatever stopped them.
"""

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wikigpt.config import write_json
from wikigpt.data.article import (
    SPLITS,
    Article,
    Dropped,
    Found,
    InputFile,
    Piece,
    document,
    repaired,
    split_key,
    split_of,
)
from wikigpt.data.filters import Duplicates, keys, reason_to_drop
from wikigpt.data.processes import processes
from wikigpt.data.sources import Source

SEGMENT = 32 * 2**20  # characters of clean text between done-markers
PART = 32 * 2**20  # bytes of input files that share a set of shards, where several are so small
SMALL = 4 * 2**20  # bytes of input that one process reads sooner than others have started
EXAMPLES = 5  # titles that are kept of each reason to drop

ROW = np.dtype([("keys", "<u8", 3), ("split", "u1"), ("bytes", "<u4")])
LEFT_OUT = 255  # in place of a split


@dataclass(frozen=True)
class Rules:
    """What decides, beside the source, which articles are kept and where they go."""

    held_out: float  # share of articles for validation, and as many again for test
    titles: frozenset[str] = frozenset()  # to be kept out altogether
    most: int | None = None  # articles, from the beginning of the source


@dataclass(frozen=True)
class Segment:
    """Clean text of one piece of the input, one JSON line per article, and its done-marker."""

    path: Path  # work/00000-00000-000.jsonl
    file: int  # number of the part, and of its shards
    read: int  # articles of the piece that were read up to its end, dropped ones too
    last: bool  # of its piece
    dropped: dict[str, int] = field(default_factory=dict)  # articles by reason
    examples: dict[str, list[str]] = field(default_factory=dict)  # titles of some of them
    splits: np.ndarray = field(default_factory=lambda: np.zeros(0, "u1"), compare=False)  # set by select()

    def __iter__(self) -> Iterator[tuple[str, Article]]:
        return ((split, Article(**json.loads(line))) for split, line in self.lines())

    def lines(self) -> Iterator[tuple[str, str]]:
        """The split and the JSON of each article that is kept."""
        with open(self.path, encoding="utf-8") as file:
            for line, split in zip(file, self.splits, strict=True):
                if split != LEFT_OUT:
                    yield SPLITS[split], line

    @property
    def rows(self) -> np.ndarray:
        """A row of ROW for each article in the file."""
        return np.fromfile(self.path.with_suffix(".rows"), ROW)

    @property
    def articles(self) -> int:
        """How many are in the file."""
        return self.path.with_suffix(".rows").stat().st_size // ROW.itemsize

    def counts(self) -> Counter[str]:
        """Articles and bytes of each split."""
        rows, counts = self.rows, Counter[str]()
        for number, split in enumerate(SPLITS):
            mine = self.splits == number
            counts[f"{split} articles"] = int(mine.sum())
            counts[f"{split} bytes"] = int(rows["bytes"][mine].sum(dtype=np.int64))
        return counts


# ── which pieces there are ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Task:
    """What one process reads from beginning to end."""

    part: int
    number: int  # in its part
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)

    def path(self, work: Path, segment: int) -> Path:
        """Where a segment of it lies."""
        return work / f"{self.part:05d}-{self.number:05d}-{segment:03d}.jsonl"


def tasks(source: Source) -> list[Task]:
    """All there is to read, in the order of the source."""
    found = []
    for part, files in enumerate(parts(source.files)):
        pieces = [piece for file in files for piece in source.pieces(file)]
        groups = [(piece,) for piece in pieces] if len(files) == 1 else [tuple(pieces)]
        found += [Task(part, number, group) for number, group in enumerate(groups)]
    return found


def parts(files: Sequence[InputFile]) -> list[list[InputFile]]:
    """Files that share a set of shards: each alone, but small ones together, or a folder of a hundred thousand notes would
    become six times as many files."""
    parts: list[list[InputFile]] = []
    size = 0
    for file in files:
        size += file.bytes
        if not parts or size > PART:
            parts.append([])
            size = file.bytes
        parts[-1].append(file)
    return parts


# ── reading and cleaning ───────────────────────────────────────────────────────────────────────────────────────────────

Watch = Callable[[int, int], None]  # bytes and articles that were read since the last call


def run(source: Source, rules: Rules, work: Path, rank: int = 0, world_size: int = 1) -> None:
    """Reads this rank's share of the source, so that a cluster's scheduler can drive it: one call for each rank, in any
    order, on any machine that sees the files. What is done is left alone."""
    for task in tasks(source)[rank::world_size]:
        write_task(source, rules, work, task, lambda bytes_, articles: None)


def read_all(source: Source, rules: Rules, work: Path, workers: int, watch: Watch) -> list[Segment]:
    """Reads the source on this machine, with as many processes as `workers`; returns its segments, chosen from, in order."""
    todo = tasks(source)
    # Where a few articles are enough, not more is read at a time than may be needed.
    step = max(1, len(todo)) if rules.most is None else workers if workers == 1 else 4 * workers
    done: list[Segment] = []
    for start in range(0, len(todo), step):
        _read(source, rules, work, todo[start : start + step], workers, watch)
        done += [segment for task in todo[start : start + step] for segment in segments(task, work)]
        if rules.most is not None and sum(segment.articles for segment in done) >= rules.most:
            found = select(done, rules.most)
            if sum(int((segment.splits != LEFT_OUT).sum()) for segment in found) >= rules.most:
                return found
    return select(done, rules.most)


def _read(source: Source, rules: Rules, work: Path, todo: list[Task], workers: int, watch: Watch) -> None:
    waiting = []
    for task in todo:
        if finished(task, work):
            watch(task.bytes, sum(segment.read for segment in segments(task, work)[-1:]))
        else:
            waiting.append(task)
    if min(workers, len(waiting)) <= 1 or sum(task.bytes for task in waiting) < SMALL:
        for task in waiting:
            write_task(source, rules, work, task, watch)
    else:
        _share_out(source, rules, work, deque(waiting), workers, watch)


def _share_out(source: Source, rules: Rules, work: Path, waiting: deque[Task], workers: int, watch: Watch) -> None:
    with processes(min(workers, len(waiting))) as pool:
        busy: dict[Future[int], Task] = {}
        while waiting or busy:
            while waiting and len(busy) < 2 * workers:
                task = waiting.popleft()
                busy[pool.submit(_write_task_elsewhere, source, rules, work, task)] = task
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                watch(busy.pop(future).bytes, future.result())


def _write_task_elsewhere(source: Source, rules: Rules, work: Path, task: Task) -> int:
    articles = 0

    def count(_: int, more: int) -> None:
        nonlocal articles
        articles += more

    write_task(source, rules, work, task, count)
    return articles


def finished(task: Task, work: Path) -> bool:
    """Whether all segments of a task are there."""
    found = segments(task, work)
    return bool(found) and found[-1].last


def segments(task: Task, work: Path) -> list[Segment]:
    """The segments of a task that are done, up to the first that is not."""
    found: list[Segment] = []
    while not (found and found[-1].last):
        path = task.path(work, len(found))
        mark = path.with_suffix(".json")
        if not mark.exists():
            break
        found.append(Segment(path, **json.loads(mark.read_text(encoding="utf-8"))))
    return found


def write_task(source: Source, rules: Rules, work: Path, task: Task, watch: Watch) -> None:
    """Reads a task to its end, behind the segments that are there already."""
    done = segments(task, work)
    if done and done[-1].last:
        return
    read = done[-1].read if done else 0
    found = islice(_found(source, task), read, None)
    before = 0
    for number in range(len(done), 10**9):
        segment, position = _write_segment(
            source, rules, found, task.path(work, number), task.part, read, before, watch
        )
        read, before = segment.read, position
        if segment.last:
            watch(max(0, task.bytes - before), 0)
            return


def _found(source: Source, task: Task) -> Found:
    """What stands in the pieces of a task, with the bytes that were read so far."""
    before = 0
    for piece in task.pieces:
        for position, found in source.read(piece):
            yield before + position, found
        before += piece.bytes


def _write_segment(
    source: Source,
    rules: Rules,
    found: Found,
    path: Path,
    part: int,
    read: int,
    before: int,
    watch: Watch,
) -> tuple[Segment, int]:
    """Reads articles until the segment is full or its task ends; also returns the bytes that reading has come to."""
    dropped: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    rows: list[tuple[Any, ...]] = []
    duplicates, new = Duplicates(), 0
    size, last, position, reported = 0, True, before, read
    with open(path, "w", encoding="utf-8") as file:
        for position, article in found:
            read += 1
            if read % 100 == 0:
                watch(position - before, read - reported)
                before, reported = position, read
            if isinstance(article, Article):
                article = article.repaired()
                if reason := reason_to_drop(article, bool(source.wiki), rules.titles):
                    article = Dropped(reason, article.title)
            if isinstance(article, Dropped):
                dropped[article.reason] += 1
                kept = examples.setdefault(article.reason, [])
                kept += [repaired(article.title)[:200]] * (len(kept) < EXAMPLES)
                continue
            split = SPLITS.index(split_of(split_key(article, source.wiki, source.name), rules.held_out))
            length = len(document(article).encode())
            rows.append((keys(article, bool(source.wiki)), split, length))
            file.write(json.dumps(vars(article), ensure_ascii=False) + "\n")
            size += len(article.text)
            if rules.most is not None:
                new += duplicates.is_new(rows[-1][0])
            if new == rules.most:
                break
            if size >= SEGMENT:
                last = False
                break
        file.flush()
        os.fsync(file.fileno())
    with open(path.with_suffix(".rows"), "wb") as file_of_rows:
        file_of_rows.write(np.array(rows, ROW).tobytes())  # tofile() says nothing of a full disk
        file_of_rows.flush()
        os.fsync(file_of_rows.fileno())
    watch(position - before, read - reported)
    segment = Segment(path, part, read, last, dict(dropped), examples)
    kept_fields = ("file", "read", "last", "dropped", "examples")
    write_json(path.with_suffix(".json"), {name: getattr(segment, name) for name in kept_fields})
    return segment, position


# ── choosing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def select(found: Sequence[Segment], most: int | None = None) -> list[Segment]:
    """The segments with what came before dropped, and each other article's split; up to the one that holds the last of
    `most` articles."""
    duplicates = Duplicates()
    chosen: list[Segment] = []
    left = most if most is not None else 2**62
    for segment in found:
        if left <= 0 and chosen:
            break
        rows = segment.rows
        splits = rows["split"].copy()
        double: list[int] = []
        for number, three in enumerate(rows["keys"].tolist()):
            if left <= 0:
                splits[number] = LEFT_OUT
            elif duplicates.is_new(tuple(three)):
                left -= 1
            else:
                splits[number] = LEFT_OUT
                double.append(number)
        dropped, examples = dict(segment.dropped), dict(segment.examples)
        if double:
            dropped["duplicate"] = len(double)
            examples["duplicate"] = _titles(segment.path, double[:EXAMPLES])
        chosen.append(replace(segment, dropped=dropped, examples=examples, splits=splits))
    return chosen


def _titles(path: Path, numbers: Sequence[int]) -> list[str]:
    with open(path, encoding="utf-8") as file:
        lines = enumerate(islice(file, numbers[-1] + 1))
        return [json.loads(line)["title"][:200] for number, line in lines if number in numbers]
