"""A dump as clean articles, one JSON object a line, for anyone's use; on all cores, in the order of the dump.

dump ──> pieces ──> {"id", "revision", "title", "url", "text"}
"""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from wikigpt.data.article import Dropped, Piece
from wikigpt.data.processes import in_order
from wikigpt.data.segments import SMALL
from wikigpt.data.sources import Source

Lines = tuple[bytes, Counter[str]]


def extract(source: Source, out: BinaryIO, workers: int, watch: Callable[[int, int], None]) -> Counter[str]:
    """Writes all articles of a source; returns how many there were ("articles"), and how many pages were left out, by
    reason. `watch` is told of bytes and pages that were read."""
    counts: Counter[str] = Counter()
    pieces = [piece for file in source.files for piece in source.pieces(file)]
    if sum(piece.bytes for piece in pieces) < SMALL:
        workers = 1
    for piece, (lines, found) in in_order(partial(_lines, source), pieces, workers):
        out.write(lines)
        counts += found
        watch(piece.bytes, sum(found.values()))
    return counts


def _lines(source: Source, piece: Piece) -> Lines:
    lines, counts = [], Counter[str]()
    for _, found in source.read(piece):
        if isinstance(found, Dropped):
            counts[found.reason] += 1
        else:
            counts["articles"] += 1
            lines.append(json.dumps(vars(found.repaired()), ensure_ascii=False) + "\n")
    return "".join(lines).encode(), counts
