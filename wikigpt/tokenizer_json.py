"""A byte-level BPE as the Hugging Face libraries write it down: tokenizer.json to its parts, and back.

    tokenizer.json  <──>  Parts: the order of merging, ids, special tokens, patterns

What cannot be read so that every text gets the ids it gets there is refused with the reason.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import regex

from wikigpt.errors import DataError

TOKENIZER = "tokenizer.json"
END_OF_TEXT = "<|endoftext|>"
ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>")  # the first that a tokenizer has

# Radford et al. 2019: contractions, letters, digits, the rest; a space belongs to what follows it.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

# Combining marks (\p{M}) stay with their letters: GPT-2's pattern cuts Hindi at every vowel sign. Digits stand alone.
# llama.cpp knows exactly this pattern, by the name "qwen35", so that a published model needs no code of ours.
PATTERN = (
    r"""(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"""
    r"""| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)


@dataclass(frozen=True)
class Parts:
    """All that decides the ids of a text."""

    ranks: dict[bytes, int]  # the bytes of each token and its place in the order of merging
    ids: np.ndarray | None  # the id of each place; None where it is the place itself
    special: dict[str, int]
    cuts: list[str]  # patterns that cut the text before the last one does
    pattern: str
    nfc: bool  # whether text is brought into Unicode's composed form first
    text: str  # the file as it was


def read(path: Path, check_merges: bool) -> Parts:
    """Reads a tokenizer.json; checking its merges takes a second. Raises DataError where it is none, or one that cuts or
    spells text in another way."""
    try:
        text = path.read_text(encoding="utf-8")
        record = json.loads(text)
        model, added = record["model"], record.get("added_tokens", [])
        _refuse(path, model["type"] != "BPE" or model.get("byte_fallback"), "is no byte-level BPE")
        _refuse(path, model.get("dropout"), "merges at random (dropout)")
        _refuse(path, (record.get("decoder") or {}).get("type") not in ("ByteLevel", "Sequence"), "is not byte-level")
        _refuse(path, any(not token["special"] for token in added), "has added tokens that are plain text")
        special = {token["content"]: int(token["id"]) for token in added}
        _refuse(path, not any(word in special for word in ENDS_OF_TEXT), f"has none of {', '.join(ENDS_OF_TEXT)}")
        ranks, ids = _ranks(path, model, special, check_merges)
        cuts, pattern = _patterns(path, record.get("pre_tokenizer"))
        nfc = _is_nfc(path, record.get("normalizer"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, regex.error) as error:
        problem = f"{path} is not a byte-level BPE tokenizer.json ({type(error).__name__}: {error})."
        raise DataError(problem, "Name another, or prepare the data again.") from error
    in_order = bool((ids == np.arange(len(ids))).all())
    return Parts(ranks, None if in_order else ids, special, cuts, pattern, nfc, text)


def compare(path: Path, ids_of: Mapping[str, list[int]]) -> None:
    """Refuses a tokenizer.json that gives other ids for the probe here than in the library it was written for, where that
    is installed: patterns mean different things to different engines ("^", "[[:alpha:]]")."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return
    theirs = Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True
    theirs.no_truncation()
    theirs.no_padding()
    for text, ids in ids_of.items():
        same = theirs.encode(text, add_special_tokens=False).ids == ids
        _refuse(path, not same, f"gives other ids here than in Hugging Face's library, for example of {text[:20]!r}")


PROBE = (
    "The quick brown fox doesn't jump over 1,234.5 lazy dogs; it's THEY'LL o'clock.\n\n  Indented\ttabs\r\nend",
    '# Title\n\nA first line.\nA second line (with "quotes", $5 & 50%) - and_more/than+that',
    "= [x]{y}<z>@#~`^|\\ \n\n\n1\n2 3  4   5\n",
    "हिन्दी विश्व की भाषा १२३ | ภาษาไทย | اللُّغَةُ العَرَبِيَّة ١٢٣ | 维基百科，２０２６年 | Ελλάδα Ёлка | Cafe\u0301 naïve Ångström",
    "👩‍👩‍👧‍👦 🇫🇷 ❤️ \u2028\u2029 \u00a0 \u3000 \x00\x1c\x85 \ufeff \u200b   \n \n\n   x  \t\t y\r\n\r\n   ",
)


def _refuse(path: Path, condition: Any, reason: str) -> None:
    if condition:
        raise DataError(f"{path} {reason}.", "Take another tokenizer, gpt2, or bpe.")


def _ranks(
    path: Path, model: dict[str, Any], special: Mapping[str, int], check: bool
) -> tuple[dict[bytes, int], np.ndarray]:
    """Bytes of each token in the order of merging, and their ids."""
    vocabulary = {token: int(number) for token, number in model["vocab"].items() if token not in special}
    order = [token for token in sorted(vocabulary, key=vocabulary.__getitem__) if len(token) == 1]
    _refuse(path, len(order) < 256, "lacks a token for some byte")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    order += dict.fromkeys(a + b for a, b in pairs)
    if model.get("ignore_merges"):  # a piece that stands in the vocabulary is taken whole, however it would be merged
        order += sorted(vocabulary.keys() - set(order), key=vocabulary.__getitem__)
    ranks = {token_bytes(token): rank for rank, token in enumerate(order)}
    if check and not model.get("ignore_merges"):
        # tiktoken merges what gives the lowest rank, whichever pair it is made of
        for a, b in pairs:
            one, other = token_bytes(a), token_bytes(b)
            _refuse(path, _merge_of(one + other, ranks) != (one, other), f"merges {a + b!r} in an order of its own")
    return ranks, np.array([vocabulary[token] for token in order], np.uint32)


def _patterns(path: Path, stage: dict[str, Any] | None) -> tuple[list[str], str]:
    """The patterns of a pre-tokenizer, the last apart. That one must match every character: tiktoken drops what it does not
    match, where Hugging Face keeps it as a piece."""
    stages = stage.get("pretokenizers", [stage]) if stage else []
    patterns = []
    for stage in stages:
        kind = stage["type"]
        if kind == "Split" and stage["behavior"] == "Isolated" and not stage.get("invert"):
            pattern = stage["pattern"]
            patterns.append(pattern["Regex"] if "Regex" in pattern else regex.escape(pattern["String"]))
        elif kind == "Digits":
            patterns.append(r"\p{N}" if stage["individual_digits"] else r"\p{N}+")
        elif kind == "ByteLevel" and not stage.get("add_prefix_space") and stage is stages[-1]:
            patterns += [GPT2_PATTERN] if stage.get("use_regex", True) else []
        else:
            _refuse(path, True, f"cuts text with {kind} in a way that is not known here")
    _refuse(path, not patterns, "cuts text in no known way")
    last = patterns.pop()
    if last not in (GPT2_PATTERN, PATTERN) and regex.sub(last, "", _every_character()):
        last = rf"{last}|(?:(?!{last})[\s\S])+"
    for pattern in (*patterns, last):
        empty = regex.compile(pattern).fullmatch("")
        _refuse(path, empty, f"cuts text with a pattern that matches nothing, {pattern!r}")
    return patterns, last


def _every_character() -> str:
    return "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))


def _is_nfc(path: Path, normalizer: dict[str, Any] | None) -> bool:
    if normalizer is None:
        return False
    kinds = [stage["type"] for stage in normalizer.get("normalizers", [normalizer])]
    _refuse(path, kinds not in ([], ["NFC"]), f"changes text by {', '.join(kinds)}")
    return kinds == ["NFC"]


def token_bytes(token: str) -> bytes:
    """The bytes of a token as tokenizer.json spells it."""
    characters = _characters()
    return bytes(characters[character] for character in token)


@cache
def _characters() -> dict[str, int]:
    """GPT-2's printable stand-in for each of the 256 bytes."""
    plain = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = iter(range(256, 512))
    return {chr(byte) if byte in plain else chr(next(others)): byte for byte in range(256)}


def _merge_of(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that `token` was merged from: what byte-pair merging leaves when it stops one step short."""
    parts: Sequence[bytes] = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, 2**62) for a, b in pairwise(parts)]
        i = min(range(len(pairs)), key=pairs.__getitem__)
        parts = [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]
    return parts[0], parts[1]


def write(ranks: Mapping[bytes, int], pattern: str) -> str:
    """The content of tokenizer.json for a BPE whose ids are its ranks, with end-of-text behind them."""
    characters = list(_characters())  # in the order of the bytes
    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    spelled = {token: "".join(characters[byte] for byte in token) for token, _ in by_rank}
    vocab = {spelled[token]: rank for token, rank in by_rank} | {END_OF_TEXT: len(ranks)}
    merges = [[spelled[part] for part in _merge_of(token, ranks)] for token, _ in by_rank if len(token) > 1]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    own_pattern = {"type": "Sequence", "pretokenizers": [cut, byte_level]}
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    special = {"id": len(ranks), "content": END_OF_TEXT, "single_word": False, "lstrip": False}
    special |= {"rstrip": False, "normalized": False, "special": True}
    record = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True} if pattern == GPT2_PATTERN else own_pattern,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": model | {"vocab": vocab, "merges": merges},
    }
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"
