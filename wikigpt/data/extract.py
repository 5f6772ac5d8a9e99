"""A dump as clean articles, one JSON object a line, for anyone's use; on all cores, in the order of the dump.

dump ──> pieces ──> {"id", "revision", "title", "url", "text"}
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from typing import BinaryIO

from wikigpt.data.article import Dropped, Piece
from wikigpt.data.processes import processes
from wikigpt.data.segments import SMALL
from wikigpt.data.sources import Source

Lines = tuple[bytes, Counter[str]]


def extract(source: Source, out: BinaryIO, workers: int, watch: Callable[[int, int], None]) -> Counter[str]:
    """Writes all articles of a source; returns how many there were ("articles"), and how many pages were left out, by
    reason. `watch` is told of bytes and pages that were read."""
    counts: Counter[str] = Counter()
    pieces = [piece for file in source.files for piece in source.pieces(file)]
    for piece, (lines, found) in _in_order(source, pieces, workers):
        out.write(lines)
        counts += found
        watch(piece.bytes, sum(found.values()))
    return counts


def _in_order(source: Source, pieces: list[Piece], workers: int) -> Iterator[tuple[Piece, Lines]]:
    if workers == 1 or len(pieces) == 1 or sum(piece.bytes for piece in pieces) < SMALL:
        yield from ((piece, _lines(source, piece)) for piece in pieces)
        return
    with processes(min(workers, len(pieces))) as pool:
        waiting: deque[tuple[Piece, Future[Lines]]] = deque()
        for piece in pieces:
            waiting.append((piece, pool.submit(_lines, source, piece)))
            if len(waiting) >= 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _lines(source: Source, piece: Piece) -> Lines:
    lines, counts = [], Counter[str]()
    for _, found in source.read(piece):
        if isinstance(found, Dropped):
            counts[found.reason] += 1
        else:
            counts["articles"] += 1
            lines.append(json.dumps(asdict(found.repaired()), ensure_ascii=False) + "\n")
    return "".join(lines).encode(), counts
