"""How much of an article each wikitext -> text extractor keeps, what it leaves behind, and how fast it is.

    python benchmarks/extraction.py [DUMP ...] [--passes 3] [--limit N] [--tool NAME ...] [--all-sections]
    python benchmarks/extraction.py [DUMP ...] --show METRIC --tool NAME     # what that tool missed, with page titles

DUMP is a pages-articles XML file, plain or .bz2; without one: the 106 English articles that the gensim package carries.
Everything is counted against the raw wikitext of each article, by code that no extractor shares:

  prose, lists   8-word windows of mark-up-free runs found verbatim in the output; lists: within `*` and `#` items
  values         inline templates whose displayed value is certain (convert, lang, val, ...): the value stands within
                 40 characters after the mark-up-free words before the template
  headings       headings kept as a line of their own, marks (`#`, `=`) and a last full stop aside
                 (prose, lists, values and headings: not those in References, See also, External links and the like)
  tables         cells' words: two mark-up-free words next to each other in a cell, next to each other in the output
  math           bodies of <math> found verbatim
  left, holes    left-over mark-up, and punctuation around something that was lost, per 100,000 characters of output
  MB/s           wikitext (UTF-8) per second of one process; tools take turns article by article; median of the passes

A peer whose package is missing is skipped: pip install wikiextractor==3.1.0 mwparserfromhell wikitextparser
"""

import argparse
import bz2
import html
import importlib.metadata
import itertools
import re
import statistics
import sys
import time
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

SHARES = ("prose", "lists", "values", "headings", "tables", "math")
EXCERPT = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
CUT = "\x00"  # stands where mark-up was: no run of words crosses it
WINDOW = 8
Clean = Callable[[str, str], str]  # (wikitext, title) -> text


class Page(NamedTuple):
    """One article as the dump has it."""

    title: str
    wikitext: str


class Need(NamedTuple):
    """One thing that a good extractor keeps. `parts`: words or spellings, one of which will do; `before`: context."""

    metric: str
    parts: tuple[str, ...]
    before: str = ""


def read_dump(path: Path, limit: int | None) -> tuple[list[Page], tuple[str, ...]]:
    """The articles (namespace 0, no redirects) of a dump, and what links to files and categories begin with."""
    prefixes = {"file", "image", "category", "media"}
    pages: list[Page] = []
    with bz2.open(path) if path.suffix == ".bz2" else path.open("rb") as stream:
        for _, element in ElementTree.iterparse(stream):
            tag = element.tag.rpartition("}")[2]
            if tag == "namespace" and element.get("key") in ("6", "14") and element.text:
                prefixes.add(element.text.lower())
            elif tag == "page":
                if element.findtext("{*}ns") == "0" and element.find("{*}redirect") is None:
                    text = element.findtext("{*}revision/{*}text") or ""
                    pages.append(Page(element.findtext("{*}title") or "", text))
                element.clear()
                if limit and len(pages) >= limit:
                    break
    return pages, tuple(sorted(prefixes))


HIDDEN = re.compile(
    r"<!--.*?-->|<ref\b[^<>]*/>"
    r"|<(ref|gallery|timeline|score|imagemap|syntaxhighlight|source|pre|code|nowiki)\b[^<>]*>.*?</\1\s*>",
    re.S | re.I,
)
MATH = re.compile(r"<math\b[^<>]*>(.*?)</math\s*>", re.S | re.I)
TEMPLATE = re.compile(r"\{\{((?:[^{}]|\{(?!\{)|\}(?!\}))*?)\}\}")
TABLE = re.compile(r"(?m)^[ :]*\{\|((?:(?!^[ :]*\{\|).)*?)^[ ]*\|\}", re.S)
HEADING = re.compile(r"(?m)^(=+)[ \t]*(.+?)[ \t]*\1[ \t]*$")
MARK_UP = re.compile(
    r"\[\[[^\[\]|\n]*\||\[(?:https?:)?//[^\s\]]*|''+|<[^<>]*>|&#?\w+;|https?://\S+|__[A-Z]+__|[\[\]{}|<>~\n\x00]"
)
VALUE = re.compile("\x01(\\d+)\x02")
EDIT_ONLY = re.compile(  # sections for editors and of links out, with the sections below them; English names only
    r"(references?|notes?|foot ?notes|citations?|sources|works cited|see also|external links?|further reading|bibliography"
    r"|literature|publications|notes and references|references and notes)$",
    re.I,
)
MONTHS = "January February March April May June July August September October November December".split()


def runs(text: str) -> Iterator[list[str]]:
    """The mark-up-free runs of a text, as lists of words."""
    for run in MARK_UP.split(VALUE.sub(CUT, text)):
        if words := run.split():
            yield words


def windows(metric: str, text: str) -> Iterator[Need]:
    """Every window of 8 words in the mark-up-free runs of a text, side by side."""
    for words in runs(text):
        for start in range(0, len(words) - WINDOW + 1, WINDOW):
            yield Need(metric, (" ".join(words[start : start + WINDOW]),))


def plain(text: str) -> str:
    """Wikitext of a word or two as it is displayed; "" where that is not certain."""
    text = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", text)
    text = html.unescape(re.sub(r"''+|</?(?:small|big|b|i|u|sub|sup|span|nowiki)\b[^<>]*>", "", text))
    return "" if re.search(r"[\[\]{}|<>\x00-\x02]", text) else " ".join(text.split())


TEXT_FIRST = set(
    """ipa nowrap nobr unicode polytonic angbr vanchor linktext small smaller big larger abbr mvar var em strong
    flag hebrew keypress circa c. ca. formatnum""".split()
)  # templates that show their first argument


def displayed(body: str) -> tuple[str, ...]:
    """What `{{body}}` shows, as the spellings one of which must do; () for a template that is none of ours."""
    name, *arguments = re.split(r"\|(?![^\[]*\]\])", body)
    name = " ".join(name.replace("_", " ").lower().split())
    split = [re.match(r"\s*(\w*)\s*=(.*)", a, re.S) for a in arguments]
    named = {m[1]: plain(m[2]) for m in split if m}
    given = [plain(a) for a, m in zip(arguments, split, strict=True) if not m]
    given += [named[n] for n in map(str, range(len(given) + 1, 5)) if n in named]
    first, second = [*given, "", ""][:2]
    month = MONTHS[int(second) - 1] if re.fullmatch(r"0?[1-9]|1[0-2]", second) else ""
    if name in ("convert", "cvt"):
        return (first,) if "disp" not in named and re.fullmatch(r"[\d,]*\.?\d+", first) else ()
    if name in ("lang", "transl", "transliteration"):
        return (given[-1],) if len(given) in (2, 3) else ()
    if name in TEXT_FIRST or name.startswith("lang-") or re.match(r"ipa-[a-z]+$", name):
        return (first,)
    if name == "val":
        return (first,) if len(given) == 1 else ()
    if name.startswith("formatnum:"):
        return (plain(name.partition(":")[2]),)
    if name in ("as of", "asof"):
        return (
            named.get("alt") or f"{'' if 'since' in named else 's of '}{given[2] if given[2:] else ''} {month} {first}",
        )
    if name in ("frac", "sfrac", "fraction") and given:
        return (" ".join([*given[:-2], "/".join(given[-2:] if len(given) > 1 else ["1", *given])]),)
    if name in ("chem", "chem2"):
        return ("".join(given),) if re.fullmatch(r"[A-Za-z0-9()]+", "".join(given)) else ()
    if re.match(r"(birth|death|start|end)[- ]date", name) and len(given) >= 3 and month:
        day = given[2].lstrip("0")
        return (f"{month} {day} {first}", f"{day} {month} {first}")
    return ()


def needs(page: Page, prefixes: tuple[str, ...], all_sections: bool = False) -> list[Need]:
    """Everything that is counted for one page; without `all_sections`, not what stands in edit-only sections."""
    found: list[Need] = []
    text = HIDDEN.sub(lambda m: "" if m[0].startswith("<!--") else CUT, page.wikitext)
    found += [Need("math", (" ".join(m[1].split()),)) for m in MATH.finditer(text)]
    text = MATH.sub(CUT, text)
    values: list[tuple[str, ...]] = []

    def keep(match: re.Match[str]) -> str:
        """Notes what an innermost template shows, and leaves a number in its place."""
        values.append(tuple(v for v in displayed(match[1]) if v))
        return f"\x01{len(values) - 1}\x02" if values[-1] else CUT

    before = None
    while before != text:
        before, text = text, TEMPLATE.sub(keep, text)
    while match := TABLE.search(text):
        text = text[: match.start()] + CUT + text[match.end() :]
        for cell in re.split(r"\n\s*[|!][-}+]?|\|\||!!", match[1].partition("\n")[2]):
            cell = re.sub(r"^[^\[\]|\n]*\|(?!\|)", "", cell)
            for words in runs(cell):
                found += [Need("tables", (" ".join(pair),)) for pair in itertools.pairwise(words)]
    unseen = rf"(?i)\[\[\s*(?:{'|'.join(map(re.escape, prefixes))})\s*:"
    text = re.sub(unseen + r"(?:[^\[\]]|\[\[[^\[\]]*\]\]|\[[^\[\]]*\])*\]\]", CUT, text)
    skipped = 0  # the level of the edit-only section that we are in
    for line in text.split("\n"):
        if match := HEADING.match(line):
            shown = plain(VALUE.sub("", match[2]))
            if not skipped or len(match[1]) <= skipped:
                skipped = len(match[1]) if EDIT_ONLY.match(shown) and not all_sections else 0
            found += [Need("headings", (shown,))] if shown and not skipped else []
            continue
        if skipped:
            continue
        if line[:1] in ("*", "#"):
            found += windows("lists", line.lstrip("*#:; "))
        elif line[:1] not in ("|", "!", "{", ";", ":", "="):
            found += windows("prose", line)
        for match in VALUE.finditer(line):
            context = " ".join(MARK_UP.split(VALUE.sub(CUT, line[: match.start()]))[-1].split()[-6:])
            if context.count(" ") >= 1:
                found.append(Need("values", values[int(match[1])], context))
    return found


def squeezed(text: str) -> str:
    """A text without what styles differ in: spaces, commas, raised and lowered figures, kinds of slash and minus."""
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").replace("\u2212", "-")
    return re.sub(r"[\s,\u200b-\u200f\u2060]+", "", text)


def has(need: Need, flat: str, lines: set[str]) -> bool:
    """Whether the output has it. `flat`: the output with single spaces; `lines`: its lines without heading marks."""
    if need.metric == "headings":
        return need.parts[0].rstrip(". ") in lines
    if need.metric != "values":
        return need.parts[0] in flat
    start = flat.find(need.before)
    while start >= 0:
        end = start + len(need.before)
        for part in map(squeezed, need.parts):
            after = squeezed(flat[end : end + 40 + 2 * len(part)])
            if re.search(rf"(?<!\d){re.escape(part)}(?!\d)", after) if part[-1:].isdigit() else part in after:
                return True
        start = flat.find(need.before, end)
    return False


LEFT = re.compile(
    r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|''+|\bthumb\||(?<![\w:])(?:File|Image|Category):\S|\[https?:|<!--|__[A-Z]{4,}__"
    r"|</?(?:ref|math|br|small|sub|sup|div|span|nowiki|gallery|blockquote|table|t[rdh]|center|code)\b"
    r"|\b(?:style|class|align|valign|colspan|rowspan|width|bgcolor)\s*=|&(?:nbsp|lt|gt|amp|ndash|mdash|quot);"
)
HOLE = re.compile(r"\([\s,;]*\)|(?<=\S) ,|,,|\([,;]|\b(?:in|of|at|by|to|from|with|for|on|about)\s?\.(?=\s|$)")


def holes(output: str, raw: str) -> list[re.Match[str]]:
    """The holes of an output, but for those that the raw text has just so, with the eight characters before them."""
    return [m for m in HOLE.finditer(output) if output[max(0, m.start() - 8) : m.end()] not in raw]


def ours(path: Path, prefixes: tuple[str, ...]) -> Clean:
    """WikiGPT's own extractor: the one place that knows its interface."""
    from wikigpt.data.dump import read_site
    from wikigpt.data.wikitext import clean_wikitext

    site = read_site(path)
    return lambda wikitext, title: clean_wikitext(wikitext, title, site)


def wikiextractor(path: Path, prefixes: tuple[str, ...]) -> Clean:
    """WikiExtractor as its command line runs it with --no-templates, without the <doc> frame."""
    from wikiextractor import extract

    def clean(wikitext: str, title: str) -> str:
        extractor = extract.Extractor("1", "1", "", title, [wikitext])
        return "\n".join(extractor.clean_text(wikitext, expand_templates=False))

    return clean


def mwparserfromhell(path: Path, prefixes: tuple[str, ...]) -> Clean:
    """What Hugging Face's `wikipedia` script did: files, categories, notes and tables out, then section by section."""
    import mwparserfromhell as parser

    unwanted = re.compile(rf"(?i)\s*(?:{'|'.join(map(re.escape, prefixes))})\s*:")

    def clean(wikitext: str, title: str) -> str:
        sections = []
        for section in parser.parse(wikitext).get_sections(flat=True, include_lead=True, include_headings=True):
            nodes = [n for n in section.filter_wikilinks() if unwanted.match(str(n.title))]
            nodes += [n for n in section.filter_tags() if str(n.tag) in ("ref", "table")]
            for node in nodes:
                try:
                    section.remove(node)
                except ValueError:  # went with what it stood in
                    continue
            sections.append(section.strip_code().strip())
        return "\n\n".join(sections)

    return clean


def wikitextparser(path: Path, prefixes: tuple[str, ...]) -> Clean:
    """wikitextparser's plain_text with its own defaults."""
    import wikitextparser as parser

    return lambda wikitext, title: parser.parse(wikitext).plain_text()


TOOLS = {f.__name__: f for f in (ours, wikiextractor, mwparserfromhell, wikitextparser)}


def build(asked: list[str], path: Path, prefixes: tuple[str, ...], said: Console) -> dict[str, Clean]:
    """The tools that can be imported here."""
    tools = {}
    for name in asked:
        try:
            tools[name] = TOOLS[name](path, prefixes)
        except ImportError as error:
            said.print(f"skipped {name}: {error}")
    return tools


def measure(paths: list[Path], asked: argparse.Namespace) -> None:
    """Runs the tools over the dumps in turns, and prints the table, or the misses of one tool."""
    said = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    hits: dict[str, Counter[str]] = {}
    seconds: dict[str, list[float]] = {}
    wanted: Counter[str] = Counter()
    articles = volume = 0
    for path in paths:
        pages, prefixes = read_dump(path, asked.limit)
        tools = build(asked.tool or list(TOOLS), path, prefixes, said)
        articles += len(pages)
        volume += sum(len(page.wikitext.encode()) for page in pages)
        outputs: dict[str, list[str]] = {name: [] for name in tools}
        taken = {name: [0.0] * asked.passes for name in tools}
        for turn in range(asked.passes):
            for page in pages:
                for name, clean in tools.items():
                    began = time.perf_counter()
                    try:
                        output = clean(page.wikitext, page.title)
                    except Exception as error:  # a peer may fail on a page: it keeps nothing of it
                        output = ""
                        if turn == 0:
                            said.print(f"{name} failed on {page.title}: {error!r}")
                    taken[name][turn] += time.perf_counter() - began
                    if turn == 0:
                        outputs[name].append(output)
        for name, times in taken.items():
            seconds[name] = [a + b for a, b in zip(seconds.get(name, [0.0] * asked.passes), times, strict=True)]
        for index, page in enumerate(pages):
            listed = needs(page, prefixes, asked.all_sections)
            wanted.update(need.metric for need in listed)
            for name in tools:
                score(listed, page, outputs[name][index], hits.setdefault(name, Counter()), asked.show, said)
    if asked.show:
        return
    table = Table(title=f"{articles} articles, {volume / 1e6:.2f} MB of wikitext, {asked.passes} passes")
    for column in ("tool", "MB/s", "left", "holes", *(f"{share}\n{wanted[share]:,}" for share in SHARES), "characters"):
        table.add_column(column, justify="left" if column == "tool" else "right")
    for name, got in hits.items():
        per = 100_000 / max(1, got["characters"])
        rates = [volume / 1e6 / statistics.median(seconds[name]), got["left"] * per, got["holes"] * per]
        shares = [f"{got[share] / wanted[share]:.3f}" if wanted[share] else "-" for share in SHARES]
        table.add_row(name, *(f"{rate:.1f}" for rate in rates), *shares, f"{got['characters']:,}")
    said.print(table)


def score(listed: list[Need], page: Page, output: str, got: Counter[str], show: str | None, said: Console) -> None:
    """Adds one page's figures to a tool's; with `show`, prints what that metric finds wrong."""
    flat = " ".join(output.split())
    lines = {" ".join(line.strip("#= \t").split()).rstrip(". ") for line in output.splitlines()}
    for need in listed:
        if has(need, flat, lines):
            got[need.metric] += 1
        elif need.metric == show:
            missed = f"{page.title}: {need.before}{' -> ' if need.before else ''}{' | '.join(need.parts)}"
            said.print(missed, markup=False, soft_wrap=True)
    got["characters"] += len(output)
    spotted = {"left": list(LEFT.finditer(output)), "holes": holes(output, page.wikitext)}
    got.update({metric: len(matches) for metric, matches in spotted.items()})
    for match in spotted.get(show or "", []):
        around = output[max(0, match.start() - 50) : match.end() + 50].replace("\n", "⏎")
        said.print(f"{page.title}: {match[0]!r} in {around}", markup=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dumps", nargs="*", type=Path, metavar="DUMP")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only the first N articles of each dump")
    parser.add_argument("--all-sections", action="store_true", help="count References, See also, ... too")
    parser.add_argument("--tool", nargs="+", choices=list(TOOLS), help="only these")
    parser.add_argument("--show", choices=[*SHARES, "left", "holes"], help="print its misses; with --tool")
    asked = parser.parse_args()
    if asked.show:
        asked.passes = 1
        if len(asked.tool or []) != 1:
            parser.error("--show needs one --tool")
    if not asked.dumps:
        asked.dumps = [Path(str(importlib.metadata.distribution("gensim").locate_file(EXCERPT)))]
    measure(asked.dumps, asked)


if __name__ == "__main__":
    main()
