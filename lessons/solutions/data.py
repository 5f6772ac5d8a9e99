"""Chapter 7: Wikipedia as data. A solution."""

import hashlib
import re

import numpy as np


def plain(wikitext: str) -> str:
    """A sentence of wikitext as a reader sees it: [[target]] becomes target, [[target|words]] becomes words, [https://... words]
    becomes words, the marks of bold and italics ('' and ''') go, and so do <ref>...</ref>, <ref name=x /> and <!-- comments -->."""
    text = re.sub(r"<!--.*?-->", "", wikitext, flags=re.DOTALL)
    text = re.sub(r"<ref[^>]*/>|<ref[^>]*>.*?</ref>", "", text, flags=re.DOTALL)
    text = re.sub(r"\[\[(?:[^\]|]*\|)?([^\]|]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?://\S+ ([^\]]*)\]", r"\1", text)
    return re.sub(r"'{2,3}", "", text)


def split_of(key: str, held_out: float) -> str:
    """ "validation", "test" or "train", always the same for a key, on every machine.

    The first 8 bytes of sha256("wikigpt-1|" + key), as a big-endian number divided by 2^64, are a number from 0 to 1. Below
    held_out it is validation, below 2 * held_out test, else train.
    """
    digest = hashlib.sha256(f"wikigpt-1|{key}".encode()).digest()
    number = int.from_bytes(digest[:8], "big") / 2**64
    if number < held_out:
        return "validation"
    return "test" if number < 2 * held_out else "train"


def windows(tokens: np.ndarray, context: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets) of `context` tokens each, one behind the other without a gap: targets are the inputs one token later,
    and every token but the first is a target at most once. What is left at the end is too short, and is left out."""
    found = []
    for start in range(0, len(tokens) - context, context):
        row = tokens[start : start + context + 1]
        found.append((row[:-1], row[1:]))
    return found


def order(count: int, seed: int, epoch: int) -> list[int]:
    """The numbers 0 to count - 1, shuffled: the same for a seed and an epoch, another for another epoch.
    np.random.default_rng([seed, epoch]) is a source of random numbers."""
    return np.random.default_rng([seed, epoch]).permutation(count).tolist()


def leaked(training: list[int], validation: list[int], context: int) -> float:
    """The share of validation windows (each begins at a number in `validation`, and has `context` tokens) that have a token in
    common with a training window. None of no windows."""
    read = set()
    for start in training:
        read.update(range(start, start + context))
    touched = [any(place in read for place in range(start, start + context)) for start in validation]
    return sum(touched) / len(touched) if touched else 0.0
