"""One Wikipedia: its language, the names of its namespaces, and what else its dump says of itself in <siteinfo>."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from wikigpt.data.wikitext import registry

FILE, CATEGORY, TEMPLATE, MEDIA = 6, 14, 10, -2  # numbers of namespaces, the same in every wiki


@dataclass(frozen=True)
class Site:
    """What cleaning a page needs to know about where it stands."""

    wiki: str  # enwiki, ptwiki
    language: str  # en, pt; simple for Simple English
    base: str  # https://en.wikipedia.org/wiki/
    namespaces: Mapping[int, str]  # 6 -> "File", as this wiki calls it

    @cached_property
    def hidden_prefixes(self) -> frozenset[str]:
        """Lower-case prefixes of links that show nothing where they stand: files, categories, other languages."""
        named = {self.namespaces.get(key, "").lower() for key in (FILE, CATEGORY, MEDIA)} - {""}
        return registry.hidden_prefixes() | named

    @cached_property
    def template_prefixes(self) -> frozenset[str]:
        """Lower-case names of the template namespace."""
        return frozenset({"template", self.namespaces.get(TEMPLATE, "template").lower()})

    @cached_property
    def edit_sections(self) -> frozenset[str]:
        """Lower-case headings of sections that hold references alone."""
        return registry.language(self.language).edit_sections

    @property
    def joiner(self) -> str:
        """What stands between two lines of a paragraph."""
        return "" if self.language in ("ja", "zh", "yue", "wuu", "gan", "lzh", "th", "lo", "km", "my") else " "

    def url(self, title: str) -> str:
        """The address of a page."""
        from urllib.parse import quote

        return self.base + quote(title.replace(" ", "_"), safe="/:()',!*@;~-._")

    def is_redirect(self, wikitext: str) -> bool:
        """Whether a page is nothing but the way to another, in any language's word for it."""
        return bool(REDIRECT.match(wikitext)) and wikitext.count("\n") < 40


REDIRECT = re.compile(r"\s*[#＃][^\W\d_][\w ‌-]{2,24}\s*[:：]?\s*\[\[[^\[\]\n]+\]\]")


def site_of(wiki: str, namespaces: Mapping[int, str] | None = None, base: str = "") -> Site:
    """A Site by its database name (enwiki); English namespaces unless others are given."""
    language = wiki.removesuffix("wiki").replace("_", "-")
    base = base or f"https://{language}.wikipedia.org/wiki/"
    return Site(wiki, language, base, namespaces or {-2: "Media", 6: "File", 10: "Template", 14: "Category"})
