"""What my_gpt/tokens.py must do."""

from wikigpt.learn.expect import check, expect, same
from wikigpt.tokenizer import train_bpe

TEXT = "the cat sat on the mat, and the rat sat on the cat. " * 3


@check(
    "count_pairs: every pair of neighbours",
    "The neighbours of ids are zip(ids, ids[1:]).",
    "collections.Counter counts whatever it is given.",
    "return dict(Counter(zip(ids, ids[1:])))",
)
def count_pairs(mine):
    same(dict(mine.count_pairs([1, 2, 1, 2, 3])), {(1, 2): 2, (2, 1): 1, (2, 3): 1}, "count_pairs([1, 2, 1, 2, 3])")
    same(dict(mine.count_pairs([5, 5, 5])), {(5, 5): 2}, "count_pairs([5, 5, 5])")
    same(dict(mine.count_pairs([7])), {}, "count_pairs([7]): one id has no neighbour; the result")


@check(
    "merge: a pair becomes one id",
    "Walk along the ids with an index; where the two at the index are the pair, the index moves by two.",
    "tuple(ids[at : at + 2]) == pair also works at the end, where only one id is left.",
    "If it is the pair: append new, at += 2. Else: append ids[at], at += 1.",
)
def merge(mine):
    given = [1, 2, 3, 1, 2]
    stays = {"the second of the two is still there: move on by two": [9, 2, 3, 9, 2]}
    same(mine.merge(given, (1, 2), 9), [9, 3, 9], "merge([1, 2, 3, 1, 2], (1, 2), 9)", stays)
    same(given, [1, 2, 3, 1, 2], "merge changes the list that it is given: that list")
    overlapping = {"two pairs that overlap were both merged": [9, 9]}
    same(mine.merge([1, 1, 1], (1, 1), 9), [9, 1], "merge([1, 1, 1], (1, 1), 9)", overlapping)
    same(mine.merge([2, 1], (1, 2), 9), [2, 1], "merge([2, 1], (1, 2), 9): the order matters; the result")
    same(mine.merge([], (1, 2), 9), [], "merge of no ids")


@check(
    "train: the most frequent pair, again and again",
    "list(text.encode()) are the bytes as numbers.",
    "max(pairs, key=pairs.get) is the most frequent pair, and of several the one that was counted first.",
    "Count anew after every merge: merging a pair makes new pairs.",
    "The new id of merge number n (from 0) is 256 + n.",
)
def train(mine):
    same(mine.train("abab", 1), [(97, 98)], 'train("abab", 1)')
    last = {"of pairs that are as frequent, the one that comes first in the text": [(99, 100)]}
    same(
        mine.train("abcd", 1)[:1],
        [(97, 98)],
        'train("abcd", 1)',
        last | {"of pairs that are as frequent, take the first": [(98, 99)]},
    )
    without = {"pairs must be counted anew after each merge": [(97, 98), (98, 97)]}
    same(mine.train("ababab", 2), [(97, 98), (256, 256)], 'train("ababab", 2)', without)
    same(mine.train("ab", 5), [(97, 98)], 'train("ab", 5): after one merge no pair is left; the result')
    expect(mine.train("ééé", 1) == [(195, 169)], "é is two bytes, 195 and 169: begin with text.encode().")


@check(
    "encode: the merges in their order",
    "Begin with the bytes, and merge every pair of `merges`, the first learned first.",
    "for number, pair in enumerate(merges): ids = merge(ids, pair, 256 + number)",
)
def encode(mine):
    merges = mine.train(TEXT, 20)
    same(mine.encode("ab", [(97, 98)]), [256], 'encode("ab", [(97, 98)])')
    expect(
        len(mine.encode(TEXT, merges)) < len(TEXT) / 2, "Twenty merges should make this text less than half as long."
    )
    same(mine.encode("hello", []), [104, 101, 108, 108, 111], "encode without merges")


@check(
    "decode: back to text, whatever the ids",
    "Which bytes is id 256? Those of merges[0][0], then those of merges[0][1].",
    "Build a table from id to bytes: 0 to 255 first, then one merge after another; each is made of two that are there.",
    'Join the bytes of all ids first, and decode once: b"".join(...).decode(errors="replace").',
)
def decode(mine):
    merges = mine.train(TEXT + "नमस्ते 月 é", 25)
    for text in (TEXT, "नमस्ते", "月", "", "naïve café"):
        same(mine.decode(mine.encode(text, merges), merges), text, f"decode(encode({text[:20]!r}))")
    same(mine.decode([195], []), "\ufffd", "decode of the first half of é")


@check(
    "your encode gives the ids of wikigpt's tokenizer",
    "Both do the same inside a word; look again at the order of the merges.",
    "A pair must be merged wherever it stands, before the next merge is looked at.",
)
def package(mine):
    tokenizer = train_bpe([TEXT], 300)
    by_id = [token for token, _ in sorted(tokenizer.ranks.items(), key=lambda item: item[1])]
    merges = []
    for token in by_id[256:]:  # the two parts that it was merged from: what the merges before leave of it
        parts = mine.encode(token.decode(), merges)
        expect(len(parts) == 2, f"encode({token.decode()!r}) with {len(merges)} merges gives {len(parts)} ids, not 2.")
        merges.append((parts[0], parts[1]))
    for word in ("the", " cat", " sat", " mat", " rattle", " zebra"):
        same(mine.encode(word, merges), tokenizer.encode(word).tolist(), f"encode({word!r})")
