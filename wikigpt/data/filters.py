"""Which articles are kept: each is let through, or dropped for one named reason.

Article ──> None | "short" | "disambiguation" | "duplicate"
"""

import hashlib

from wikigpt.data.article import Article

SHORTEST = 30  # characters, not words: Chinese, Japanese and Thai do not set words apart


class Filter:
    """Remembers a hash of title and text of each article that it has let through, so that none comes twice: a text that
    stands in two splits would leak. The first one wins, so the result depends on the order of the source alone."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def reason_to_drop(self, article: Article) -> str | None:
        """Why the article is dropped, or None where it stays."""
        if len(article.text) < SHORTEST:
            return "short"
        if article.text.endswith((":", "：")):  # "Mercury may refer to:"
            return "disambiguation"
        for part in (article.title, article.text):
            if _digest(part) in self.seen:
                return "duplicate"
        self.seen.update((_digest(article.title), _digest(article.text)))
        return None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest()
