"""Wikitext to text that a reader would accept. Pure functions; no template is executed.

    wikitext ──> aside.py (comments, references, formulas, code) ──> links.py (links and templates, innermost first)
             ──> inline.py (bold, tags) ──> mend.py (where something was cut out) ──> layout.py (headings, lists, tables)

What a template shows is looked up (`templates.py`); what is not known there shows nothing. Where something went, HOLE
stands until the white space and the brackets around it are mended, so only what we cut is tidied, never an author's text.
Everything takes time in proportion to the length of the page, whatever stands in it.
"""

import html
import re
import unicodedata

from wikigpt.data.wikitext.aside import set_aside
from wikigpt.data.wikitext.inline import inline
from wikigpt.data.wikitext.layout import laid_out
from wikigpt.data.wikitext.links import links_and_templates, variants
from wikigpt.data.wikitext.marks import CLOSE, MARKS, OPEN, SHOWN
from wikigpt.data.wikitext.mend import mend
from wikigpt.data.wikitext.site import Site


def clean_wikitext(wikitext: str, title: str, site: Site) -> str:
    """The text of a page: paragraphs set apart by blank lines, "## Heading" (one more # for each level), "- " and "1. "
    before items, a line for a table's row with " | " between its cells, "$...$" around formulas."""
    aside: list[str] = []
    text = wikitext.replace("\r\n", "\n").replace("\t", " ").replace("&nbsp;", "\xa0")
    for mark in MARKS:
        if mark in text:
            text = text.replace(mark, "")
    text = set_aside(text, aside)
    if "-{" in text:
        text = variants(text, site.language)
    if "__" in text:
        text = MAGIC_WORD.sub("", text)
    text = links_and_templates(text, title, site)
    text = mend(inline(text))
    text = laid_out(text, site)
    return _characters(OPENED.sub(lambda match: aside[int(match[1].translate(SHOWN))], text))


OPENED = re.compile(f"{OPEN}([\x0e-\x17]+){CLOSE}")
MAGIC_WORD = re.compile(r"__[^\W\da-z_]+(?:_[^\W\da-z_]+)*__")  # __TOC__, __SANSTDM__, __بلا_فهرس__; not __init__


def _characters(text: str) -> str:
    """Entities become characters, every kind of space one kind, and letters with accents one character."""
    if "&" in text:
        text = html.unescape(HUGE_ENTITY.sub("", text))
    if not text.isascii():
        text = STACKED.sub("", text)
        text = unicodedata.normalize("NFC", WITHOUT_WIDTH.sub("", FIXED_WIDTH.sub(" ", text)))
    return text.strip()


HUGE_ENTITY = re.compile("&#x?[0-9a-fA-F]{9,};?")  # no character
# Dozens of accents on one letter are no text, and sorting them takes the square of their number.
STACKED = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u1dc0-\u1dff\u20d0-\u20ff]{31,}"
)
# Spaces of a fixed width are spaces; what has no width goes, but the joiners that Persian and Hindi are spelled with.
FIXED_WIDTH = re.compile("[\xa0\u2002-\u200a\u202f]")
WITHOUT_WIDTH = re.compile("[\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
