"""What a template shows, where a page calls it. A call is looked up in the registry, which is data:

{{nowrap|a b}}   "nowrap": "{1}"          a text with holes: parameter 1
{{flag|Peru|x}}   "flag": "{1}[ ({2})]"   what stands in [] goes where a hole in it is empty
{{convert|5|km}} "convert": "=convert"    a function of `values.py`
{{portal|Moon}}   not there                shows nothing
"""

import html
import re
from functools import cache

from wikigpt.data.wikitext import registry
from wikigpt.data.wikitext.call import Template
from wikigpt.data.wikitext.site import Site
from wikigpt.data.wikitext.values import FUNCTIONS, SUPERSCRIPTS, Rule


def show(content: str, title: str, site: Site) -> str | None:
    """What "name|parameters" shows, or None where that is nothing or not known."""
    name, _, rest = content.partition("|")
    name = " ".join(name.replace("_", " ").split()).lower()
    rules = _rules(site.language)
    rule = rules.get(name)
    if rule is None:
        prefix, colon, _ = name.partition(":")
        if colon:
            return _function(prefix, content.partition(":")[2], title, site)
        families = registry.language(site.language).families
        value = next((value for pattern, value in families if pattern.fullmatch(name)), None)
        if value is None:
            return title if name in PAGE_NAMES else None
        rule = _compiled(value)
    return rule(Template(name, rest), site) or None


def _function(prefix: str, rest: str, title: str, site: Site) -> str | None:
    """Parser functions and magic words that show what they are given; the others need a wiki to run on."""
    if prefix in site.template_prefixes or prefix in ("subst", "safesubst"):
        return show(rest, title, site)
    first, _, then = rest.partition("|")
    first = first.strip()
    if prefix == "#if":
        return then.partition("|")[0 if first else 2].strip()
    changed = {"lc": first.lower(), "uc": first.upper(), "lcfirst": first[:1].lower() + first[1:]}
    if prefix in ("ucfirst", "formatnum", "padleft", "padright", "grammar"):
        return first[:1].upper() + first[1:]
    return changed.get(prefix) or (title if prefix in PAGE_NAMES else None)


PAGE_NAMES = ("pagename", "fullpagename", "basepagename", "subpagename")


# ── the little language of the registry ────────────────────────────────────────────────────────────────────────────────


@cache
def _rules(language: str) -> dict[str, Rule]:
    """What the templates of a Wikipedia show, by lower-case name."""
    return {name: _compiled(value) for name, value in registry.language(language).templates.items()}


@cache
def _compiled(value: str) -> Rule:
    """A registry's value as a function."""
    if value.startswith("=") and len(value) > 1 and value[1:] in FUNCTIONS:
        return FUNCTIONS[value[1:]]
    pieces = [piece for piece in re.split(r"(\[[^\]]*\])", value) if piece]

    def rule(template: Template, site: Site) -> str:
        return "".join(_filled(piece, template) for piece in pieces)

    return rule


HOLES = re.compile(r"\{([^{}]*)\}")


def _filled(piece: str, template: Template) -> str:
    optional = piece.startswith("[")
    missing = False

    def fill(match: re.Match[str]) -> str:
        nonlocal missing
        value = _value(match[1], template)
        missing = missing or not value
        return value

    filled = HOLES.sub(fill, piece[1:-1] if optional else piece)
    return "" if optional and missing else html.unescape(filled) if "&#" in piece else filled


def _value(hole: str, template: Template) -> str:
    """{2|1}: the first that is not empty; {2*, }: all from the second on, joined by what stands after the star."""
    if hole == "name":
        return template.name
    start, star, separator = hole.partition("*")
    if star and (not start or start.isdecimal()):
        return separator.join(value for value in template.positional[int(start or 1) - 1 :] if value)
    if hole.endswith("^"):
        return _value(hole[:-1], template).translate(SUPERSCRIPTS)
    if hole.endswith(","):  # {1,}: a number, which the author wrote with a point
        return re.sub(r"(?<=[0-9])\.(?=[0-9])", ",", _value(hole[:-1], template))
    hole, _, otherwise = hole.partition("|'")
    return template.first(*(int(key) if key.isdecimal() else key.lower() for key in hole.split("|"))) or otherwise
