"""Chapter 7: Wikipedia as data."""

import hashlib
import re

import numpy as np


def plain(wikitext: str) -> str:
    """A sentence of wikitext as a reader sees it: [[target]] becomes target, [[target|words]] becomes words, [https://... words]
    becomes words, the marks of bold and italics ('' and ''') go, and so do <ref>...</ref>, <ref name=x /> and <!-- comments -->."""
    raise NotImplementedError  # write this


def split_of(key: str, held_out: float) -> str:
    """ "validation", "test" or "train", always the same for a key, on every machine.

    The first 8 bytes of sha256("wikigpt-1|" + key), as a big-endian number divided by 2^64, are a number from 0 to 1. Below
    held_out it is validation, below 2 * held_out test, else train.
    """
    raise NotImplementedError  # write this


def windows(tokens: np.ndarray, context: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets) of `context` tokens each, one behind the other without a gap: targets are the inputs one token later,
    and every token but the first is a target at most once. What is left at the end is too short, and is left out."""
    raise NotImplementedError  # write this


def order(count: int, seed: int, epoch: int) -> list[int]:
    """The numbers 0 to count - 1, shuffled: the same for a seed and an epoch, another for another epoch.
    np.random.default_rng([seed, epoch]) is a source of random numbers."""
    raise NotImplementedError  # write this


def leaked(training: list[int], validation: list[int], context: int) -> float:
    """The share of validation windows (each begins at a number in `validation`, and has `context` tokens) that have a token in
    common with a training window. None of no windows."""
    raise NotImplementedError  # write this
