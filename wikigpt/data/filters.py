"""Which articles are kept: each is let through, or dropped for one named reason.

Article ──> None | "short" | "white space" | "disambiguation" | "duplicate"
"""

import hashlib
import re
import unicodedata
from array import array

from wikigpt.data.article import Article, document

SHORTEST = 30  # characters, not words: Chinese, Japanese and Thai do not set words apart
BLANK = re.compile(r"\s{10000}")  # no text, and more than the patterns of tokenizers can take


class Filter:
    """Remembers hashes of what it has let through, so that nothing comes twice: a text that stands in two splits would
    leak. They are of each article's text, of the whole document, and, on a Wikipedia, where no two articles share one, of
    its title. The first one wins, so the result depends on the order of the source alone."""

    def __init__(self, wikipedia: bool) -> None:
        self.wikipedia = wikipedia
        self.seen = HashSet()

    def reason_to_drop(self, article: Article) -> str | None:
        """Why the article is dropped, or None where it stays (and is remembered)."""
        if len(article.text) < SHORTEST:
            return "short"
        if BLANK.search(article.text):
            return "white space"
        if self.wikipedia and article.text.endswith((":", "：")):  # "Mercury may refer to:"
            return "disambiguation"
        digests = self._digests(article)
        if any(digest in self.seen for digest in digests):
            return "duplicate"
        for digest in digests:
            self.seen.add(digest)
        return None

    def remember(self, article: Article) -> None:
        """Takes in an article that was let through before."""
        for digest in self._digests(article):
            self.seen.add(digest)

    def _digests(self, article: Article) -> list[int]:
        parts = {article.text, document(article)} | ({article.title} if self.wikipedia else set())
        return sorted(_digest(part) for part in parts if part)


def _digest(text: str) -> int:
    """Of a text without regard to white space and to how its accents are spelled; never 0."""
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest()) or 1


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
