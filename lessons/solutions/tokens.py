"""Chapter 1: bytes to tokens by byte-pair encoding. A solution."""

from collections import Counter
from itertools import pairwise

Pair = tuple[int, int]


def count_pairs(ids: list[int]) -> dict[Pair, int]:
    """How often each pair of neighbours occurs, in the order in which they come first."""
    return dict(Counter(pairwise(ids)))


def merge(ids: list[int], pair: Pair, new: int) -> list[int]:
    """The same with `new` in place of every occurrence of the pair, from left to right: of 1 1 1, with the pair (1, 1), the
    first two become one."""
    merged, at = [], 0
    while at < len(ids):
        if tuple(ids[at : at + 2]) == pair:
            merged.append(new)
            at += 2
        else:
            merged.append(ids[at])
            at += 1
    return merged


def train(text: str, n_merges: int) -> list[Pair]:
    """Which pairs to merge, in order. The text begins as its UTF-8 bytes, which are ids 0 to 255; then, n_merges times, the
    most frequent pair becomes a new id: 256, 257, ... Of pairs that are as frequent, the one that comes first in the text. It
    ends early where no pair is left."""
    ids, merges = list(text.encode()), []
    while len(merges) < n_merges and (pairs := count_pairs(ids)):
        best = max(pairs, key=pairs.get)
        ids = merge(ids, best, 256 + len(merges))
        merges.append(best)
    return merges


def encode(text: str, merges: list[Pair]) -> list[int]:
    """Ids of a text: its bytes, then every merge in the order in which it was learned."""
    ids = list(text.encode())
    for number, pair in enumerate(merges):
        ids = merge(ids, pair, 256 + number)
    return ids


def decode(ids: list[int], merges: list[Pair]) -> str:
    """Text of ids. Bytes that are no whole character become U+FFFD: bytes.decode(errors="replace")."""
    table = {n: bytes([n]) for n in range(256)}
    for number, (left, right) in enumerate(merges):
        table[256 + number] = table[left] + table[right]
    return b"".join(table[n] for n in ids).decode(errors="replace")
