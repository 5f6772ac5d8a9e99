"""What my_gpt/data.py must do."""

import numpy as np

from wikigpt.data.article import split_of
from wikigpt.learn.expect import check, expect, same

CASES = {
    "[[Moon]]": "Moon",
    "the [[Solar System|solar system]] and [[Mars]]": "the solar system and Mars",
    "'''Mars''' is the ''fourth'' planet": "Mars is the fourth planet",
    "It is red.<ref>A book, page 3.</ref> It is cold.": "It is red. It is cold.",
    'It is red.<ref name="a" /> Yes.<ref name="b">x</ref>': "It is red. Yes.",
    "one<!-- nobody\nsees this --> two": "one two",
    "see [https://example.org the page]": "see the page",
    "It's an 'apple'": "It's an 'apple'",
}


@check(
    "plain: what a reader sees",
    "re.sub(pattern, replacement, text). Order matters: references first, since there may be links in them.",
    "A link: \\[\\[ then perhaps a target and |, then the words, then \\]\\]. r'\\[\\[(?:[^\\]|]*\\|)?([^\\]|]*)\\]\\]' with r'\\1'.",
    "<ref .../> must be looked for before <ref ...>...</ref>: else the first swallows all up to the end of the second.",
    ".*? takes as little as it can; flags=re.DOTALL lets the dot match line ends.",
)
def plain(mine):
    for wikitext, text in CASES.items():
        same(mine.plain(wikitext), text, f"plain({wikitext!r})")


@check(
    "split_of: always the same",
    'hashlib.sha256(f"wikigpt-1|{key}".encode()).digest() are 32 bytes.',
    'int.from_bytes(digest[:8], "big") / 2**64 is a number from 0 to 1.',
    "Python's own hash() gives a text another number in every process: it cannot split anything twice alike.",
)
def split(mine):
    keys = [f"enwiki|{n}" for n in range(2000)]
    got = [mine.split_of(key, 0.1) for key in keys]
    wrong = set(got) - {"train", "validation", "test"}
    expect(not wrong, f'split_of gives {wrong}; it should be "train", "validation" or "test".')
    right = [split_of(key, 0.1) for key in keys]
    off = [key for key, one, other in zip(keys, got, right, strict=True) if one != other]
    expect(
        not off, f"split_of({off[0] if off else ''!r}, 0.1) differs from wikigpt's, and so do {len(off)} of 2,000 keys."
    )
    same(mine.split_of("x", 0.0), "train", "split_of with nothing held out")


@check(
    "windows: inputs, and the same one token later",
    "Each window needs context + 1 tokens: context inputs, and the target of the last.",
    "The next window begins `context` tokens later: its first input is the last target of the one before.",
    "range(0, len(tokens) - context, context) are the starts.",
)
def windows(mine):
    tokens = np.arange(100, 112)
    got = mine.windows(tokens, 5)
    expect(len(got) == 2, f"12 tokens make 2 windows of 5, and {len(got)} came.")
    inputs, targets = got[0]
    expect(list(inputs) == list(range(100, 105)), f"The first inputs should be 100 to 104 and are {list(inputs)}.")
    expect(
        list(targets) != list(inputs),
        "Targets are the inputs themselves: a model would learn to copy. One token later.",
    )
    expect(list(targets) == list(range(101, 106)), f"The first targets should be 101 to 105 and are {list(targets)}.")
    second = [int(n) for n in got[1][0]]
    expect(
        second != list(range(106, 111)), "Token 105 is the input of nobody: the next window begins one token earlier."
    )
    expect(second == list(range(105, 110)), f"The second inputs should be 105 to 109 and are {second}.")
    expect(
        len(mine.windows(tokens[:11], 5)) == 2,
        "11 tokens make two windows of 5: the last token is the last target of the second.",
    )
    expect(
        len(mine.windows(tokens[:10], 5)) == 1, "10 tokens make one window of 5: the second would lack its last target."
    )
    expect(len(mine.windows(tokens[:4], 5)) == 0, "4 tokens make no window of 5.")


@check(
    "order: shuffled, and known again",
    "np.random.default_rng([seed, epoch]).permutation(count)",
    "Return a list of plain numbers: .tolist()",
)
def order(mine):
    first = list(mine.order(50, 1, 0))
    expect(sorted(first) == list(range(50)), "order(50, 1, 0) should hold each of 0 to 49 once.")
    expect(first != list(range(50)), "order(50, 1, 0) is not shuffled.")
    expect(first == list(mine.order(50, 1, 0)), "The same seed and epoch should give the same order.")
    expect(first != list(mine.order(50, 1, 1)), "Another epoch should give another order.")
    expect(first != list(mine.order(50, 2, 0)), "Another seed should give another order.")
    expect(
        list(mine.order(50, 1, 2)) != list(mine.order(50, 2, 1)),
        "Seed 1, epoch 2 and seed 2, epoch 1 should differ: do not add them up.",
    )


@check(
    "leaked: how much of validation was trained on",
    "A window that begins at s holds the places s to s + context - 1.",
    "Collect all places of all training windows in a set; a validation window leaks if any of its places is there.",
)
def leaked(mine):
    same(float(mine.leaked([0, 10], [20, 30], 10)), 0.0, "leaked of windows that only touch")
    same(float(mine.leaked([0, 10], [5, 30], 10)), 0.5, "leaked where one of two overlaps")
    same(float(mine.leaked([0], [9, 10], 10)), 0.5, "leaked where one has a single token in common")
    same(float(mine.leaked([3, 40], [3, 40], 10)), 1.0, "leaked of the same windows")
    same(float(mine.leaked([1], [], 10)), 0.0, "leaked of no validation windows")
    same(float(mine.leaked([], [1, 2], 10)), 0.0, "leaked of no training windows")
