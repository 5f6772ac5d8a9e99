"""What a model writes that its training text holds word for word, and in which article.

ids ──> data/passages.py ──> Passage(text, article, revision, link)          samples ──> share that repeats 50 tokens or more
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wikigpt.data.passages import Match, Passages, articles_of, matches, repeated
from wikigpt.generate import Sampling, generate_ids
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel

LONG = 50  # tokens: Lee et al. 2022 and Carlini et al. 2023 call that many memorised


@dataclass(frozen=True)
class Passage:
    """A passage of some text that the training text holds too (in this article, and perhaps others)."""

    text: str
    start: int
    tokens: int
    title: str
    revision: str
    url: str


def passages_of(ids: Sequence[int], index: Sequence[Passages], tokenizer: Tokenizer, shortest: int) -> list[Passage]:
    """All passages of at least `shortest` tokens, in order."""
    return _named([(match, ids) for match in matches(ids, index, shortest)], tokenizer)


def longest_of_text(text: str, index: Sequence[Passages], tokenizer: Tokenizer) -> Passage | None:
    """The longest passage that a phrase repeats. Inside an article words begin with a space, at its beginning they do not:
    both are tried."""
    forms = [tokenizer.encode(form).tolist() for form in dict.fromkeys((text, f" {text.lstrip()}"))]
    found = [(match, ids) for ids in forms for match in matches(ids, index)]
    longest = sorted(found, key=lambda one: -one[0].length)[:1]
    return next(iter(_named(longest, tokenizer)), None)


def _named(found: Sequence[tuple[Match, Sequence[int]]], tokenizer: Tokenizer) -> list[Passage]:
    """Matches in some ids, with their text and where they stand."""
    rows = articles_of([match for match, _ in found])
    texts = [tokenizer.decode(ids[match.start : match.end]) for match, ids in found]
    return [
        Passage(text, match.start, match.length, row["title"], row["revision"], row["url"])
        for (match, _), row, text in zip(found, rows, texts, strict=True)
    ]


@dataclass(frozen=True)
class Memorised:
    """Of so many generated tokens, the share that stands in the training text in a row of LONG or more; the same share of as
    much held-out text, which nobody has memorised; and the longest passages."""

    tokens: int
    share: float
    held_out_tokens: int
    held_out_share: float
    longest: list[Passage]


def memorised(
    model: GPTModel,
    tokenizer: Tokenizer,
    index: Sequence[Passages],
    held_out: np.ndarray,
    samples: int,
    sampling: Sampling,
) -> Memorised:
    """Writes `samples` texts without a prompt and looks for each in the training text.

    Source: Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", table 4 (the share of generated
    tokens that are part of a 50-token row of the training text; over 1% without a prompt).
    """
    texts = []
    for number in range(samples):
        drawn = Sampling(sampling.max_gen, sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed + number)
        texts.append(list(generate_ids(model, [tokenizer.end_of_text], tokenizer.end_of_text, drawn)))
    share, tokens = repeated_share(texts, index)
    other, others = repeated_share(_documents(held_out[: max(tokens, 2 * LONG)], tokenizer.end_of_text), index)
    found = [(match, ids) for ids in texts for match in matches(ids, index, 5)]
    longest = sorted(found, key=lambda one: -one[0].length)[:5]
    return Memorised(tokens, share, others, other, _named(longest, tokenizer))


def repeated_share(texts: Sequence[Sequence[int]], index: Sequence[Passages], long: int = LONG) -> tuple[float, int]:
    """Which share of all ids lies in a passage of at least `long` ids that the training text holds; and their number."""
    inside = sum(int(repeated(len(ids), matches(ids, index, long)).sum()) for ids in texts)
    total = sum(len(ids) for ids in texts)
    return inside / max(1, total), total


def _documents(ids: np.ndarray, end_of_text: int) -> list[list[int]]:
    ends = np.flatnonzero(ids == end_of_text)
    return [part[part != end_of_text].tolist() for part in np.split(ids, ends)]
