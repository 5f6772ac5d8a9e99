"""Models that only count: what can be known from the few tokens just before. A model must beat them to have learned more.

    training tokens ──> counts of every row of 1 ... n tokens ──> KneserNey.nats(tokens)

Interpolated Kneser-Ney. With c(hw) how often token w followed the history h, and h' that history without its first token:

    P(w|h) = (c(hw) - D) / c(h)  +  [what all D take from h] / c(h) * P(w|h')        P(w) at the end: D's share evenly

Below the longest rows c is not how often, but after how many different tokens the row was seen: "Francisco" is frequent,
yet follows one token alone, so it is no likely guess behind others. D is what seeing a row once more would take from it:
one number, or one each for rows seen once, twice, and oftener ("modified").

Source: Chen & Goodman 1999, "An Empirical Study of Smoothing Techniques for Language Modeling", sections 2.7 and 3. (KenLM's
estimator does the same, but no package of it can be installed without a C++ build and Boost.)
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from wikigpt.data.shards import Data
from wikigpt.evaluate.score import Score, portions

COUNTED, COUNTED_FAR = 50_000_000, 10_000_000  # training tokens that are counted at the most; of longer rows than two


class KneserNey:
    """Rows of up to `order` tokens, counted. `streams` are rows of whole documents, each with end-of-text behind it; no
    history reaches beyond the end-of-text before its document."""

    def __init__(
        self, streams: Sequence[np.ndarray], end_of_text: int, vocab_size: int, order: int, modified: bool = False
    ) -> None:
        self.end_of_text, self.V, self.order = end_of_text, vocab_size, order
        x, reach = self._begun(streams)
        rows, number = [x], [vocab_size]  # of each length: which row ends at each place; how many there are
        self.keys, suffixes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        counts = [np.bincount(x[reach > 0], minlength=vocab_size)]
        for length in range(2, order + 1):
            at = np.flatnonzero(reach >= length - 1)
            wanted = rows[-1][at - 1] * self.V + x[at]
            if order == 2:  # half the memory, for what training counts each time that it starts
                keys, count = np.unique(wanted, return_counts=True)
                suffixes.append(keys % self.V)
            else:
                keys, place, inverse, count = np.unique(wanted, True, True, True)
                suffixes.append(rows[-1][at[place]])  # a row without its first token
                rows.append(np.full(len(x), -1))
                rows[-1][at] = inverse
            number.append(len(keys))
            self.keys.append(keys)
            counts.append(count)
        for length in range(1, order):  # below the longest: how many different tokens stand before
            begins = rows[length - 1][reach == length - 1] if length > 1 else np.empty(0, np.int64)  # a document
            before = np.bincount(suffixes[length], minlength=number[length - 1])
            counts[length - 1] = before + np.bincount(begins, minlength=number[length - 1])
        histories = [np.zeros(vocab_size, np.int64), *(keys // self.V for keys in self.keys[1:])]
        self.own, self.total, self.freed = [], list[np.ndarray](), list[np.ndarray]()
        for length, (count, history) in enumerate(zip(counts, histories, strict=True), 1):
            size = 1 if length == 1 else number[length - 2]
            discount = _discounts(count, modified)[np.minimum(count, 3)]
            total = np.bincount(history, weights=count, minlength=size)
            freed = np.bincount(history, weights=discount, minlength=size)
            self.own.append(count - discount)
            self.total.append(total)
            self.freed.append(np.divide(freed, total, out=np.ones(size), where=total > 0))

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """What each token of a stream of documents costs."""
        x, _ = self._begun([tokens])
        p = self.own[0][x[1:]] / self.total[0][0] + self.freed[0][0] / self.V
        rows = x
        for length in range(2, self.order + 1):
            history, keys = rows[:-1], self.keys[length - 1]
            wanted = np.where(history >= 0, history, 0) * self.V + x[1:]
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            possible = history >= 0  # one with an end-of-text inside was never seen before anything
            found = possible & (keys[place] == wanted)
            known = np.where(possible, history, 0)
            total = self.total[length - 1][known]
            own = np.divide(
                np.where(found, self.own[length - 1][place], 0.0), total, out=np.zeros(len(p)), where=total > 0
            )
            p = np.where(possible & (total > 0), own + self.freed[length - 1][known] * p, p)
            rows = np.concatenate([[-1], np.where(found, place, -1)])
        return -np.log(p)

    def _begun(self, streams: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """All streams in a row with end-of-text before each; and how many tokens before a place belong to its document, that
        end-of-text among them (0 there, which is not predicted)."""
        x = np.concatenate([part for stream in streams for part in ([self.end_of_text], stream)]).astype(np.int64)
        place = np.arange(len(x))
        ended = np.concatenate([[0], np.where(x[:-1] == self.end_of_text, place[:-1], 0)])
        reach = place - np.maximum.accumulate(ended)
        reach[np.cumsum([0, *(len(stream) + 1 for stream in streams[:-1])])] = 0
        return x, reach


def _discounts(counts: np.ndarray, modified: bool) -> np.ndarray:
    """What is taken from a row seen never, once, twice, and three times or oftener (equations 17 and 26)."""
    n = [np.count_nonzero(counts == times) for times in (1, 2, 3, 4)]
    once = n[0] / (n[0] + 2 * n[1]) if n[0] and n[1] else 0.5
    single = np.array([0.0, once, once, once])
    if not modified or not all(n):
        return single
    three = [times - (times + 1) * once * b / a for times, (a, b) in enumerate(pairwise(n), 1)]
    possible = all(0 <= discount <= times for times, discount in enumerate(three, 1))  # not so of unusual counts
    return np.array([0.0, *three]) if possible else single


def count(data: Data, order: int, modified: bool = False) -> KneserNey:
    """Counts the training split, at most its first COUNTED tokens (COUNTED_FAR for rows of more than two)."""
    return KneserNey(
        _streams(data, "train", COUNTED if order <= 2 else COUNTED_FAR),
        data.end_of_text,
        data.vocab_size,
        order,
        modified,
    )


def bigram_score(data: Data, split: str, token_bytes: np.ndarray, max_tokens: int | None = None) -> Score:
    """A split (its first `max_tokens` tokens) scored by a bigram of the training split, with one discount: what can be known
    from one token of context."""
    bigram = count(data, 2)
    total = Score(0.0, 0, 0)
    for stream in _streams(data, split, max_tokens):
        total += Score(float(bigram.nats(stream).sum()), len(stream), int(token_bytes[stream].sum()))
    return total


def _streams(data: Data, split: str, max_tokens: int | None) -> list[np.ndarray]:
    """The tokens of a split, of each folder."""
    streams = [(folder.stream(split), limit) for folder, limit in portions(data, max_tokens)]
    return [stream.read(0, len(stream) if limit is None else limit) for stream, limit in streams]
