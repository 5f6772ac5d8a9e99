"""Which articles are kept: each is let through, or dropped for one named reason.

on its own        ──> "short" | "white space" | "disambiguation" | "held out"     (any worker can say)
beside the others ──> "duplicate"                                                 (in the order of the source)
"""

import hashlib
import re
import unicodedata
from array import array
from pathlib import Path

from wikigpt.data.article import Article, prompt
from wikigpt.errors import DataError

SHORTEST = 30  # characters, not words: Chinese, Japanese and Thai do not set words apart
REFERS = re.compile(r"[^\n]{1,200}\b(?:refers? to|stand for|mean):\s*\n")  # where the dump's templates are not there
BLANK = 10_000  # white space in a row: no text, and more than the patterns of tokenizers can take


def reason_to_drop(article: Article, wikipedia: bool, held_out: frozenset[str]) -> str | None:
    """Why an article is dropped, whatever the others are, or None. `held_out` are titles as plain_title() gives them."""
    if held_out and plain_title(article.title) in held_out:
        return "held out"
    if len(article.text) < SHORTEST:
        return "short"
    if is_blank(article.text):
        return "white space"
    lead_alone = len(article.text) < 500 and article.text.endswith((":", "："))  # "Mercury may refer to:"
    if wikipedia and (lead_alone or REFERS.match(article.text[:300])):
        return "disambiguation"
    return None


def is_blank(text: str) -> bool:
    """Whether BLANK characters in a row are white space, or nearly so many: any such run fills a block of half the size."""
    half = BLANK // 2
    return any(text[start : start + half].isspace() for start in range(0, len(text) - half + 1, half))


def plain_title(title: str) -> str:
    """A title without regard to the ways to write it: underscores, spaces, the case of its first letter."""
    plain = " ".join(unicodedata.normalize("NFC", title).replace("_", " ").split())
    return plain[:1].upper() + plain[1:]


def read_titles(path: Path) -> frozenset[str]:
    """The titles in a file, one a line. Raises DataError where it cannot be read or holds none."""
    try:
        titles = frozenset(map(plain_title, path.read_text(encoding="utf-8-sig").splitlines())) - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).", "Give a UTF-8 text file with one title a line.") from error
    if not titles:
        raise DataError(f"{path} holds no titles.", "Write one title a line.")
    return titles


Keys = tuple[int, int, int]


def keys(article: Article, wikipedia: bool) -> Keys:
    """What no other article may share: 64-bit hashes of its text, of the whole document, and, on a Wikipedia, where no two
    articles have one title, of that. 0 stands for none."""
    text, title = _plain(article.text), _plain(article.title)
    whole = _digest(b" ".join((_plain(prompt(article.title)), text))) if title else 0
    return _digest(text), whole, _digest(title) if wikipedia else 0


def _plain(text: str) -> bytes:
    """A text without regard to white space and to how its accents are spelled."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split()).encode()


def _digest(plain: bytes) -> int:
    """Never 0, but of nothing."""
    return (int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest()) or 1) if plain else 0


class Duplicates:
    """Remembers what came before, so that nothing comes twice: a text that stands in two splits would leak. The first one
    wins, in a dump the one with the lowest id, so the result depends on the order of the source alone."""

    def __init__(self) -> None:
        self.seen = HashSet()

    def is_new(self, keys: Keys) -> bool:
        """Whether none of these keys came before; remembers them if so."""
        present = [key for key in keys if key]
        if any(key in self.seen for key in present):
            return False
        for key in present:
            self.seen.add(key)
        return True


class HashSet:
    """A set of 64-bit numbers above 0 in 16 to 32 bytes each: a dump has millions of articles."""

    def __init__(self) -> None:
        self.count = 0
        self._slots = array("Q", bytes(8 * 1024))  # open addressing; 0 is free

    def __contains__(self, number: int) -> bool:
        return self._slots[self._place(number)] == number

    def add(self, number: int) -> None:
        place = self._place(number)
        if self._slots[place] == 0:
            self._slots[place] = number
            self.count += 1
            if 2 * self.count > len(self._slots):
                self._grow()

    def _place(self, number: int) -> int:
        """Where the number stands, or the free slot where it would."""
        slots, last = self._slots, len(self._slots) - 1
        place = number & last
        while slots[place] not in (0, number):
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(2 * 8 * len(old)))
        for number in old:
            if number:
                self._slots[self._place(number)] = number
