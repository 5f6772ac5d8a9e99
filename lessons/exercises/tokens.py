"""Chapter 1: bytes to tokens by byte-pair encoding."""

from collections import Counter
from itertools import pairwise

Pair = tuple[int, int]


def count_pairs(ids: list[int]) -> dict[Pair, int]:
    """How often each pair of neighbours occurs, in the order in which they come first."""
    raise NotImplementedError  # write this


def merge(ids: list[int], pair: Pair, new: int) -> list[int]:
    """The same with `new` in place of every occurrence of the pair, from left to right: of 1 1 1, with the pair (1, 1), the
    first two become one."""
    raise NotImplementedError  # write this


def train(text: str, n_merges: int) -> list[Pair]:
    """Which pairs to merge, in order. The text begins as its UTF-8 bytes, which are ids 0 to 255; then, n_merges times, the
    most frequent pair becomes a new id: 256, 257, ... Of pairs that are as frequent, the one that comes first in the text. It
    ends early where no pair is left."""
    raise NotImplementedError  # write this


def encode(text: str, merges: list[Pair]) -> list[int]:
    """Ids of a text: its bytes, then every merge in the order in which it was learned."""
    raise NotImplementedError  # write this


def decode(ids: list[int], merges: list[Pair]) -> str:
    """Text of ids. Bytes that are no whole character become U+FFFD: bytes.decode(errors="replace")."""
    raise NotImplementedError  # write this
