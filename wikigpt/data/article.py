"""An article, how it becomes a document to learn from, and which split it belongs to.

Article ──> "# {title}\\n\\n{text}" + end-of-text          key ──> train | validation | test
"""

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "validation", "test")
SALT = "wikigpt-1"


@dataclass(frozen=True)
class Article:
    """One article of one Wikipedia; `id` and `revision` are "" where the source has none."""

    id: str
    revision: str
    title: str
    url: str
    text: str

    def repaired(self) -> "Article":
        """Itself, without halves of characters."""
        return Article(*map(repaired, (self.id, self.revision, self.title, self.url, self.text)))


@dataclass(frozen=True)
class InputFile:
    """A file to read: on this machine, or `path` is where it lies on the Hugging Face Hub."""

    path: Path
    bytes: int
    hashes: dict[str, str] = field(default_factory=dict)  # sha256 or sha1, where somebody has published or computed it


@dataclass(frozen=True)
class Piece:
    """A part of a file that can be read on its own: what begins between two of its bytes."""

    path: Path
    start: int
    end: int

    @property
    def bytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Dropped:
    """An article that a source itself leaves out, and why."""

    reason: str
    title: str


Found = Iterator[tuple[int, Article | Dropped]]  # with the bytes of the piece that were read so far


def repaired(text: str) -> str:
    """Half a surrogate pair is no character, and UTF-8 cannot hold it: it becomes U+FFFD, the replacement character."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def prompt(title: str) -> str:
    """How every document begins: given to a trained model, it asks for the article of that title."""
    return f"# {title}\n\n"


def document(article: Article) -> str:
    """What is encoded, before end-of-text. A text without a title stands alone."""
    return prompt(article.title) + article.text if article.title else article.text


def split_key(article: Article, wiki: str, source: str) -> str:
    """What decides the split: the page where there is an id, else the title, else the text. Stable across dumps and
    machines."""
    if article.id:
        return f"{wiki or source}|{article.id}"
    if not article.title:
        return f"{source}|{hashlib.sha256(article.text.encode()).hexdigest()}"
    return f"{source}|{' '.join(unicodedata.normalize('NFC', article.title).replace('_', ' ').split())}"


def split_of(key: str, held_out: float, salt: str = SALT) -> str:
    """The split of a key: `held_out` of all articles go to validation and as many to test."""
    number = int.from_bytes(hashlib.sha256(f"{salt}|{key}".encode()).digest()[:8], "big") / 2**64
    if number < held_out:
        return "validation"
    return "test" if number < 2 * held_out else "train"
