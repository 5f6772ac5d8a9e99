"""From a page of a dump to an article, or the reason why it is none.

dump.pages() ──> namespace, redirect, disambiguation ──> clean_wikitext() ──> Article | Dropped
"""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from wikigpt.data.article import Article, Dropped, Found, Piece
from wikigpt.data.dump import Page, TooLong, pages
from wikigpt.data.wikitext import clean_wikitext
from wikigpt.data.wikitext.registry import language
from wikigpt.data.wikitext.site import Site

CLEANER = "wikitext/1"  # in the manifest: changes when the same page gives other text
SECONDS = 10.0  # for one page; the largest take a tenth of one
GROWTH = 4  # times as long as its wikitext is more than any article becomes


def read_pages(piece: Piece, site: Site) -> Found:
    """The articles that begin in a piece of a dump."""
    for position, page in pages(piece.path, piece.start, piece.end):
        found = Dropped("too long", str(page)) if isinstance(page, TooLong) else article_of(page, site)
        yield min(position, piece.end) - piece.start, found


def article_of(page: Page, site: Site) -> Article | Dropped:
    """A page as clean text. A page that takes too long to clean, or grows beyond measure, is left out."""
    if reason := why_no_article(page, site):
        return Dropped(reason, page.title)
    try:
        with time_limit(SECONDS):
            text = clean_wikitext(page.text, page.title, site)
    except TimeoutError:
        return Dropped("too slow", page.title)
    except Exception:  # one page is no reason to lose the others; the manifest counts it
        return Dropped("cannot be cleaned", page.title)
    if len(text) > GROWTH * len(page.text) + 10_000:
        return Dropped("grows", page.title)
    return Article(page.id, page.revision, page.title, site.url(page.title), text)


def why_no_article(page: Page, site: Site) -> str | None:
    """Why a page is no article, before it is cleaned; None where it may be one."""
    if page.namespace != 0:
        return "other namespace"
    if page.redirect or site.is_redirect(page.text):
        return "redirect"
    if is_disambiguation(page.text, site):
        return "disambiguation"
    return None


def is_disambiguation(wikitext: str, site: Site) -> bool:
    """Whether a page says of itself, by a magic word or a template, that it only tells articles of one name apart."""
    if "__DISAMBIG__" in wikitext:
        return True
    names = language(site.language).disambiguation
    called = (match[1].strip().replace("_", " ").lower() for match in CALL.finditer(wikitext))
    return any(name in names or name.partition(":")[2] in names for name in called)


CALL = re.compile(r"\{\{\s*([^{}|\n<]{1,60}?)\s*(?=[|}\n<])")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what runs inside when the time is up, also within a regular expression; where there are no
    alarms (Windows, other threads) it lets it run."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def before_and_after(path: Path, site: Site, number: int = 3, longest: int = 4000) -> list[dict[str, str]]:
    """The first few articles of a dump before and after cleaning, cut to a length that can be looked at."""
    shown = []
    for _, page in islice(pages(path), 2000):
        if isinstance(page, Page) and len(page.text) > 1000 and isinstance(found := article_of(page, site), Article):
            shown.append({"title": page.title, "before": page.text[:longest], "after": found.text[: longest // 2]})
            if len(shown) == number:
                break
    return shown
