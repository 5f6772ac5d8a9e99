"""What is known of the Wikipedias and cannot be read from a dump: what templates show, months, names of headings. All of it
stands in the TOML files of this folder, one for each language; `all.toml` holds for every language and says how it is
written. To teach the cleaner a template, write a line there."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SAME = {"simple": "en", "be-tarask": "be", "zh-classical": "zh", "zh-min-nan": "zh", "yue": "zh", "wuu": "zh"}


@dataclass(frozen=True)
class Language:
    """What the cleaner knows of one language."""

    months: tuple[str, ...]  # as they stand in running text
    date: str  # "{d} {m} {y}"; {n} is the number of the month
    label: str  # "{label}: {text}", what {{lang-de|Wort}} makes of "German" and "Wort"
    labels: dict[str, str]  # "de" -> "German"
    disambiguation: frozenset[str]  # templates that mark a disambiguation page, lower case
    edit_sections: frozenset[str]  # headings of sections that no reader of prose needs, lower case
    templates: dict[str, str]  # name, lower case -> what it shows
    families: tuple[tuple[re.Pattern[str], str], ...]  # the same for names by pattern


@cache
def language(code: str) -> Language:
    """What is known of a language; where that is nothing, what holds for all, and dates as English has them."""
    every, english = _table("all"), _table("en")
    code = SAME.get(code, code)
    own = _table(code) if (HERE / f"{code}.toml").exists() and code not in ("all", "units") else {}
    families = own.get("families", {}) | every["families"]
    return Language(
        months=tuple(own.get("months", english["months"])),
        date=own.get("date", english["date"]),
        label=own.get("language", english["language"]),
        labels=own.get("languages", {}),
        disambiguation=frozenset(own.get("disambiguation", [])) | frozenset(english["disambiguation"]),
        edit_sections=frozenset(own.get("edit_sections", []) + english["edit_sections"]),
        templates=_by_name(every["templates"]) | _by_name(own.get("templates", {})),
        families=tuple((re.compile(pattern), value) for pattern, value in families.items()),
    )


@cache
def hidden_prefixes() -> frozenset[str]:
    """Lower-case prefixes of links to files, categories and other languages, as any Wikipedia writes them."""
    every = _table("all")
    return frozenset(every["file_prefixes"] + every["category_prefixes"] + every["language_codes"].split())


@cache
def units() -> dict[str, tuple[str, str, str, str, float, float, str]]:
    """By its code in {{convert}}: symbol, singular, plural, dimension, factor and offset to the base, default target."""
    return {code: tuple(values) for code, values in _table("units").items()}


def _by_name(templates: dict[str, str]) -> dict[str, str]:
    """One entry a name; "|" itself and "||" are names too."""
    return {
        name: value
        for names, value in templates.items()
        for name in (names.split("|") if names.strip("|") else [names])
    }


@cache
def _table(name: str) -> dict[str, Any]:
    with open(HERE / f"{name}.toml", "rb") as file:
        return tomllib.load(file)
