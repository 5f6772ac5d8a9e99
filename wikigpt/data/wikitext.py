"""Wikitext to text that a reader would accept. Pure functions; no template is executed.

    wikitext ──> set aside (comments, references, formulas, code) ──> links and templates, innermost first
             ──> inline mark-up ──> tidy the places where something was cut out ──> headings, lists, tables, paragraphs

What a template shows is looked up (`templates.py`); what is not known there shows nothing. Where something went, HOLE
stands until the white space and the brackets around it are mended, so only what we cut is tidied, never an author's text.
Everything takes time in proportion to the length of the page, whatever stands in it.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from wikigpt.data.site import Site
from wikigpt.data.templates import show

# Characters that XML cannot hold, so that no dump does: marks of our own between two steps.
OPEN, CLOSE, HOLE, BREAK, EQUALS, BAR = "\x01", "\x02", "\x03", "\x04", "\x05", "\x06"
MARKS = (OPEN, CLOSE, HOLE, BREAK, EQUALS, BAR)
COORDINATES = re.compile(r"[0-9.°′″]+[NS] [0-9.°′″]+[EW]")
DEEPEST = 60  # templates and links within one another; MediaWiki itself stops at 40


def clean_wikitext(wikitext: str, title: str, site: Site) -> str:
    """The text of a page: paragraphs set apart by blank lines, "## Heading" (one more # for each level), "- " and "1. "
    before items, a line for a table's row with " | " between its cells, "$...$" around formulas."""
    aside: list[str] = []
    text = wikitext.replace("\r\n", "\n").replace("\t", " ").replace("&nbsp;", "\xa0")
    for mark in MARKS:
        if mark in text:
            text = text.replace(mark, "")
    text = _set_aside(text, aside)
    if "-{" in text:
        text = _variants(text, site.language)
    if "__" in text:
        text = MAGIC_WORD.sub("", text)
    text = _links_and_templates(text, title, site)
    text = _mend(_inline(text))
    text = "\n".join(_with_blank_lines(_sections(list(_blocks(text, site.joiner)), site)))
    return _characters(OPENED.sub(lambda match: aside[int(match[1].translate(SHOWN))], text))


# The number of what was set aside, in characters that no rule for digits touches.
HIDDEN = {ord("0") + digit: 0x0E + digit for digit in range(10)}
SHOWN = {hidden: digit for digit, hidden in HIDDEN.items()}
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


# ── set aside ──────────────────────────────────────────────────────────────────────────────────────────────────────────

CUT = """ref references gallery imagemap timeline graph score hiero templatestyles section mapframe maplink templatedata
inputbox categorytree indicator includeonly noinclude dynamicpagelist charinsert listing rss randomselection""".split()
KEPT = "nowiki math chem ce pre syntaxhighlight source".split()
ASIDE = re.compile(
    rf"<(?:!--|({'|'.join(sorted(CUT + KEPT, key=len, reverse=True))})(?=[\s/>])((?:[^<>\"]|\"[^\"<>]*\")*?)(/?)>)",
    re.I,
)


def _set_aside(text: str, aside: list[str]) -> str:
    """Cuts out what no reader of prose needs, and puts a number in place of what is to be kept as it is."""
    if "<" not in text:
        return text
    out: list[str] = []
    position = 0
    unclosed: set[str] = set()  # so that a page full of openings is not searched again for each
    while match := ASIDE.search(text, position):
        out.append(text[position : match.start()])
        position = match.end()
        tag = (match[1] or "!--").lower()
        if match[3]:  # <ref name="a" />
            out.append(HOLE)
            continue
        end = None if tag in unclosed else CLOSING[tag].search(text, position)
        if end is None:
            unclosed.add(tag)
            if tag == "!--":
                return "".join(out)
            if tag in CUT:  # to the end of its line, which is where its author meant to close it
                position = _or(text.find("\n", position), len(text))
            continue
        if tag in KEPT:
            kept = _kept(tag, match[2] or "", text[position : end.start()])
            block = tag == "pre" or (tag in ("source", "syntaxhighlight") and "inline" not in (match[2] or ""))
            edge = "\n\n" if block else ""
            out.append(f"{edge}{OPEN}{str(len(aside)).translate(HIDDEN)}{CLOSE}{edge}")
            aside.append(kept)
        elif tag != "!--":
            out.append(HOLE)
        elif out[-1].endswith("\n") and text.startswith("\n", end.end()):
            end = re.compile("\n").match(text, end.end())  # a line that held a comment alone was no line
        assert end is not None
        position = end.end()
    out.append(text[position:])
    return "".join(out)


CLOSING = {tag: re.compile(rf"</{tag}\s*>", re.I) for tag in CUT + KEPT} | {"!--": re.compile("-->")}
CLOSING["ref"] = re.compile(r"</ref\s*>|<ref\s[^<>]*/>(?=\s*$)|</ref(?=\s*\n)", re.I | re.M)


def _or(position: int, otherwise: int) -> int:
    return otherwise if position < 0 else position


def _kept(tag: str, attributes: str, body: str) -> str:
    if tag == "math":
        body = body.strip()
        return "" if not body else f"$${body}$$" if "block" in attributes else f"${body}$"
    if tag == "nowiki":
        return body
    body = body.strip("\n")
    return f"```\n{body}\n```" if tag != "pre" and "\n" in body.strip() else body.strip()


# ── links and templates ────────────────────────────────────────────────────────────────────────────────────────────────

SIMPLE_LINK = re.compile(r"\[\[(?:[^\[\]{}|\n:#]*\|)?([^\[\]{}|\n:#=]+)\]\]")  # nine of ten
BRACKETS = re.compile(r"\[\[+|\]\]+|\{\{+|\}\}+")


@dataclass(slots=True)
class _Frame:
    """A link or template that is open, and what stands in it so far."""

    kind: str  # "[" or "{"
    width: int  # brackets that are still to be closed
    parts: list[str] = field(default_factory=list)


def _links_and_templates(text: str, title: str, site: Site) -> str:
    """Replaces each link by its label and each template by what it shows, the innermost first, in one pass."""
    text = "".join(SIMPLE_LINK.split(text))
    page = [_Frame("", 0)]
    counts = {"[": 0, "{": 0}
    position = 0
    for match in BRACKETS.finditer(text):
        start, end = match.span()
        if start > position:
            page[-1].parts.append(text[position:start])
        position = end
        bracket = text[start]
        if bracket == "{":
            page.append(_Frame("{", end - start))
            counts["{"] += 1
        elif bracket == "[":
            page[-1].parts.append("[" * ((end - start) % 2))
            page += [_Frame("[", 2) for _ in range((end - start) // 2)]
            counts["["] += (end - start) // 2
        else:
            _close(page, counts, "[" if bracket == "]" else "{", end - start, title, site)
    page[-1].parts.append(text[position:])
    _give_up(page, counts, 0)
    return "".join(page[0].parts).replace(EQUALS, "=").replace(BAR, "|")


def _close(page: list[_Frame], counts: dict[str, int], kind: str, left: int, title: str, site: Site) -> None:
    """Takes `left` closing brackets. Those that close nothing go."""
    if kind == "[" and left % 2:  # [[Foo|[bar]]]
        page[-1].parts.append("]")
    while left >= 2 and counts[kind]:
        if kind == "[" and page[-1].kind != "[":
            return  # a link that began outside of this template
        index = len(page) - 1
        while page[index].kind != kind:
            index -= 1
        _give_up(page, counts, index)
        frame = page[-1]
        size = 3 if kind == "{" and left >= 3 and frame.width >= 3 else 2
        content = "".join(frame.parts)
        if len(page) > DEEPEST:
            shown = HOLE
        elif kind == "[":
            shown = _link(content, site)
        elif size == 3:  # {{{parameter|default}}}
            shown = content.partition("|")[2]
        else:
            shown = show(content, title, site) or HOLE
        frame.width -= size
        left -= size
        if frame.width >= 2:
            frame.parts = [_inside(shown)]
            continue
        page.pop()
        counts[kind] -= 1
        if frame.width:
            shown = "{" + shown
        page[-1].parts.append(_inside(shown) if page[-1].kind else shown)
    if left == 1 and kind == "{":
        page[-1].parts.append("}")
    elif left >= 2 and kind == "[" and page[-1].parts:  # [http://a.b Title [archived]]
        last = page[-1].parts[-1]
        page[-1].parts.append("]" * min(left, max(0, last.count("[") - last.count("]"))))


def _inside(shown: str) -> str:
    """What a template showed must not be taken for the bars and equals signs of the one around it."""
    return shown.replace("|", BAR).replace("=", EQUALS) if "|" in shown or "=" in shown else shown


def _give_up(page: list[_Frame], counts: dict[str, int], index: int) -> None:
    """What was opened above `index` is never closed: its content stays, without the brackets; of a template, not the
    lines that hold parameters."""
    if len(page) - 1 == index:
        return
    for frame in page[index + 1 :]:
        counts[frame.kind] -= 1
        if frame.kind == "{":
            content = PARAMETERS.sub("", "".join(frame.parts))
            page[index].parts += [HOLE, content]
        else:
            page[index].parts += frame.parts
    del page[index + 1 :]


PARAMETERS = re.compile(r"\A[^\n]*(?:\n\s*\|[^\n]*)*")


def _link(content: str, site: Site) -> str:
    target, bar, label = content.partition("|")
    prefix, colon, rest = target.partition(":")
    if colon:
        prefix = prefix.strip().lower().replace("_", " ")
        if prefix in site.hidden_prefixes:
            return HOLE
        if not prefix:  # [[:Category:Foo]]
            target = rest
    if label.strip():
        return label
    target = target.strip().removeprefix("#").replace("_", " ")
    if bar:  # the pipe trick: [[Foo (bar)|]]
        return re.sub(r"\s*[(（][^()（）]*[)）]$|, .*$", "", target.rpartition(":")[2])
    return target


def _variants(text: str, language: str) -> str:
    """-{zh-hans:软件; zh-hant:軟體}- shows one of the two, -{text}- itself, and -{T|...}- and the like nothing."""

    def chosen(match: re.Match[str]) -> str:
        flags, bar, body = match[1].rpartition("|")
        if bar and not set(flags.strip()) <= set("ARDS+;"):
            return ""
        forms = dict(re.findall(r"(?:^|;)\s*([a-z]{2}(?:-[a-z]+)?)\s*:\s*([^;]*)", body))
        order = [
            f"{language}-{end}" for end in ("hans", "cn", "sg", "my", "hant", "tw", "hk", "mo", "ec", "el", "cyrl")
        ]
        return next((forms[form].strip() for form in order if form in forms), next(iter(forms.values()), body).strip())

    for _ in range(3):  # one may stand in another
        text = re.sub(r"-\{([^{}]*)\}-", chosen, text)
    return text


# ── inline mark-up ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _inline(text: str) -> str:
    if "''" in text:
        text = "\n".join([_quotes(line) if "''" in line else line for line in text.split("\n")])
    if "//" in text or "mailto:" in text:
        text = "".join(EXTERNAL_LINK.split(text))
        text = BARE_LINK.sub(HOLE, text)
    if "<" in text:
        text = LOWERED.sub(lambda match: (match[1] or match[2]).translate(LOWERED_SIGNS), RAISED.sub(_raised, text))
        text = RUBY.sub(r"(\1)", text)
        text = UNSEEN.sub(HOLE, text)
        text = POEM.sub(lambda match: "\n\n" + match[1].strip("\n").replace("\n", BREAK) + "\n\n", text)
        text = TAG.sub(_tag, text)
    return text


def _quotes(line: str) -> str:
    """Takes the marks of bold and italics out of a line. L'''Iliade'' is an apostrophe and italics; as MediaWiki does it:
    where both bold and italics are left open, one mark of three is an apostrophe and two: the first after a single letter,
    else after a word."""
    if "'''" not in line:
        return line.replace("''", "")
    runs = list(QUOTES.finditer(line))
    lengths = [len(run[0]) for run in runs]
    threes = [run.start() for run in runs if len(run[0]) == 3]
    if threes and sum(n >= 3 for n in lengths) % 2 and sum(n == 2 or n >= 5 for n in lengths) % 2:
        apostrophe = min(threes, key=lambda at: (line[at - 1 : at] in ("", " "), at > 1 and line[at - 2] != " "))
        line = f"{line[:apostrophe]}'{APART}''{line[apostrophe + 3 :]}"
    return QUOTES.sub(lambda run: "'" * (1 if len(run[0]) == 4 else max(0, len(run[0]) - 5)), line)


QUOTES = re.compile("'{2,}")
APART = "\u2060"  # has no width, and goes at the end

SCHEMES = r"(?:https?:|ftps?:|ircs?:|news:|git:|svn:|gopher:)?//|mailto:"
EXTERNAL_LINK = re.compile(rf"\[(?:{SCHEMES})[^\s\[\]<>|]+[ \t\xa0]+((?:[^\[\]\n]|\[[^\[\]\n]*\])+)\]", re.I)
BARE_LINK = re.compile(rf"\[(?:{SCHEMES})[^\[\]\n]*\]?", re.I)

# Only where it would run into another number: 20<sub>16</sub>, log<sub>2</sub>3; H2O is as people write it.
LOWERED = re.compile(r"(?<=[0-9])<sub\b[^<>]*>([0-9]+)</sub\s*>|<sub\b[^<>]*>([0-9]+)</sub\s*>(?=[0-9])", re.I)
LOWERED_SIGNS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
RUBY = re.compile(r"<rt\b[^<>]*>([^<>]+)</rt\s*>(?!\s*<rp)", re.I)
RAISED = re.compile(r"<sup\b[^<>]*>([^<>\n]*)</sup\s*>", re.I)
ORDINALS = "e er re o os a as d nd rd st th te me ème eme lle lles gr r le ter bis tm sm".split()
RAISED_SIGNS = str.maketrans("0123456789+-−–()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁽⁾ⁿ")


def _raised(match: re.Match[str]) -> str:
    """10<sup>6</sup> is not 106; but 20<sup>th</sup> is 20th."""
    body = match[1].strip().replace("&minus;", "−")
    if re.fullmatch(r"[0-9+\-−–]+|n", body):
        return body.translate(RAISED_SIGNS)
    if not body or OPEN in body or HOLE in body or re.fullmatch(r"[*†‡§]+", body):
        return body
    before = match.string[max(0, match.start() - 1) : match.start()]
    if re.fullmatch(r"[^\W\d_]{1,4}\.?", body) and (before.isdigit() or before in "XVI" or body.lower() in ORDINALS):
        return body
    return f"^({body})"


UNSEEN = re.compile(r"<span\b[^<>]*display:\s*none[^<>]*>[^<>\n]*</span\s*>", re.I)  # keys to sort a table by
POEM = re.compile(r"<poem\b[^<>]*>((?:[^<]|<(?!/?poem))*)</poem\s*>", re.I)
TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)\b((?:[^<>\"\n]|\"[^\"]*\")*)>")
NEW_LINE = set("p div center blockquote dl dt dd ol ul h1 h2 h3 h4 h5 h6 hr poem".split())
GONE = set(
    """b i u s small big sub sup span font code tt var samp kbd em strong cite dfn abbr bdi bdo del ins strike ruby rb rt
    rp rtc wbr nobr mark time data a img references ref onlyinclude noinclude includeonly nowiki math pre tbody thead tfoot
    caption col colgroup""".split()
) | set(CUT)
TABLE = {"table": "\n{|\n", "/table": "\n|}\n", "tr": "\n|-\n", "td": "\n| ", "th": "\n! "}


def _tag(match: re.Match[str]) -> str:
    close, name = match[1], match[2].lower()
    if name == "br":
        return BREAK
    if name in GONE:
        return ""
    if name == "q":
        return '"'
    if name == "li":
        return "" if close else "\n* "
    if name in NEW_LINE:
        return "\n"
    if name in ("table", "tr", "td", "th"):
        return TABLE.get(close + name, "")
    return match[0]  # no mark-up: MediaWiki shows it


# ── where something was cut out ────────────────────────────────────────────────────────────────────────────────────────

OPENING, CLOSING_BRACKETS = "([（", ")]）"
SEPARATORS = " \xa0;,:、，；·/–—-"


def _mend(text: str) -> str:
    """Closes the gaps that were left: "At , Alabama" is no sentence, and "Aristotle (; )" none of ours."""
    if "  " in text:
        text = WIDE.sub(" ", text)
    first, *others = HOLES.split(text)
    out = [first]
    for right in others:
        left = out.pop()
        while True:
            bare = left.rstrip(" \xa0")
            before, after = bare[-1:], right.lstrip(" \xa0")[:1]
            if before and before in OPENING:  # ( ; 1900)
                left, right = bare, right.lstrip(SEPARATORS)
                if right[:1] and right[0] in CLOSING_BRACKETS:  # ()
                    left, right = bare[:-1], right[1:]
                    continue
            elif after and after in CLOSING_BRACKETS:  # (1900; )
                left, right = left.rstrip(SEPARATORS), right.lstrip(" \xa0")
                if left[-1:] and left[-1] in OPENING:
                    continue
            elif not after or after in "\n,.;:!?、。，；！？":
                left = bare
                if before in ("", "\n", "*", "#") and after and after in ",;:、，；":  # {{gone}}, at the beginning
                    right = right.lstrip(SEPARATORS)
                if before and after and before in ",;、，；" and after in ",.;:、。，；：":  # one, {{gone}}, two
                    left = bare[:-1]
            elif left != bare or not left or before == "\n":
                right = right.lstrip(" \xa0")
            break
        out += [left, right] if right else [left]
    return "".join(out)


HOLES = re.compile(f"{HOLE}(?:[ \xa0]*{HOLE})*")
WIDE = re.compile("  +")


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

Block = tuple[str, str]  # heading | item | text | lines | rows; its text

HEADING = re.compile(r"(={1,6})[ \t\xa0]*(.+?)[ \t\xa0]*\1\s*$")
TABLE_START = re.compile(r"[ \t:*#;]*\{\|")
LIST = re.compile(r"[*#:;]+")


def _blocks(text: str, joiner: str) -> Iterator[Block]:
    """Headings, list items, tables and paragraphs. Lines of one paragraph are joined, as MediaWiki shows them."""
    paragraph: list[str] = []
    numbers: list[int] = []  # of the open ordered lists, by depth
    lines = iter(text.split("\n"))

    def finish() -> Iterator[Block]:
        if paragraph:
            lines = joiner.join(paragraph).split(BREAK)
            paragraph.clear()
            text = "\n".join(line.strip() for line in lines).strip("\n")
            if text and not COORDINATES.fullmatch(text):
                yield "text", text

    for line in lines:
        first = line[:1]
        if first in "*#:; {=-" and first:
            kind = ""
            if "{|" in line and TABLE_START.match(line):
                kind, body = "rows", "\n".join(_rows(line.partition("{|")[2], lines, 0))
            elif first == "=" and (match := HEADING.match(line)):
                kind, body = "heading", f"{'#' * max(2, len(match[1]))} {match[2].strip().replace(BREAK, ' ')}"
            elif first in "*#:;":
                kind, body = "item", _item(line, numbers)
            elif line.startswith("----"):
                kind, body = "text", line.strip("- ")
            elif first == " " and line.strip():
                kind, body = "lines", line.strip().replace(BREAK, "\n")
            if kind:
                yield from finish()
                if kind != "item":
                    numbers.clear()
                if body.strip():
                    yield kind, body
                continue
        if line and not line.isspace():
            numbers.clear()
            paragraph.append(line.strip())
        else:
            yield from finish()
    yield from finish()


def _item(line: str, numbers: list[int]) -> str:
    """One item of a list, indented by its depth; "" where nothing is left of it."""
    match = LIST.match(line)
    assert match is not None
    marks, body = match[0], line[match.end() :].strip().replace(BREAK, " ")
    if not body.strip(" .,;:-–—()"):
        return ""
    del numbers[len(marks) :]
    numbers += [0] * (len(marks) - len(numbers))
    kind = marks[-1]
    if kind == "#":
        numbers[-1] += 1
        body = f"{numbers[-1]}. {body}"
    elif kind == "*":
        body = f"- {body}"
    elif kind == ";":
        body = re.sub(r"\s+:\s+|\s*:$", ": ", body, count=1).rstrip()
    depth = sum(mark in "*#" for mark in marks) - (kind in "*#")
    return "  " * min(depth, 8) + body


NO_READING = re.compile(r"\b(?:navbox|infobox|metadata|ambox|sidebar|vertical-navbox|toc)\b", re.I)
SPAN = re.compile(r"\b(row|col)span\s*=\s*[\"']?([0-9]{1,3})", re.I)
CELL_ATTRIBUTES = re.compile(r"[^|\[\]<>]*(?<!\|)\|(?!\|)")


def _rows(opening: str, lines: Iterator[str], depth: int) -> list[str]:
    """The rows of a table whose first line has been read; takes the lines up to its end."""
    rows: list[str] = []
    cells: list[str] = []
    below: dict[int, tuple[int, str]] = {}  # by column: for how many rows more a cell stands there, and its text
    caption = False

    def add(cell: str) -> None:
        while len(cells) in below:
            left, text = below.pop(len(cells))
            if left > 1:
                below[len(cells)] = left - 1, text
            cells.append(text)
        text, rows_, columns = _cell(cell)
        if rows_ > 1:
            below[len(cells)] = rows_ - 1, text
        cells.extend([text, *[""] * (columns - 1)])

    def finish() -> None:
        if any(cell.strip() for cell in cells):
            row = " | ".join(" ".join(cell.split()) for cell in cells).rstrip(" |")
            rows.append("–" + row if row.startswith(" |") else row)
        cells.clear()

    for line in lines:
        line = line.strip().replace(BREAK, " ")
        start = line[:2]
        if start == "|}":
            after = line[2:].strip()
            finish()
            return [*([] if NO_READING.search(opening) else rows), *([after] if after else [])]
        if start == "|-":
            finish()
            caption = False
        elif start == "|+":
            finish()
            cells.append(_cell(line[2:])[0])
            caption = True
        elif line[:1] in ("|", "!"):
            if caption:
                finish()
            caption = False
            separator = r"\|\||!!" if line[0] == "!" else r"\|\|"
            for cell in re.split(separator, line[1:]):
                add(cell)
        elif TABLE_START.match(line):
            inner = _rows(line.partition("{|")[2], lines, depth + 1) if depth < DEEPEST else []
            if cells and len(inner) == 1:
                cells[-1] += f" {inner[0]}"
            else:
                finish()
                rows += inner
        elif cells and line:
            item = LIST.match(line)
            mark = "; " if item and cells[-1].strip() else " "
            heading = HEADING.match(line)
            cells[-1] += mark + (line[item.end() :].strip() if item else heading[2] if heading else line)
    finish()
    return [] if NO_READING.search(opening) else rows


def _cell(cell: str) -> tuple[str, int, int]:
    """A cell's text, without the attributes before its bar, and over how many rows and columns it goes."""
    match = CELL_ATTRIBUTES.match(cell)
    if not match:
        return cell.strip(), 1, 1
    spans = {name.lower(): int(number) for name, number in SPAN.findall(match[0])}
    return cell[match.end() :].strip(), min(spans.get("row", 1), 100), min(spans.get("col", 1), 20)


def _sections(blocks: list[Block], site: Site) -> list[Block]:
    """Leaves out the sections that hold references alone, and headings that nothing is left under."""
    kept: list[Block] = []
    skipped = 0  # level of the section that is left out
    for kind, body in blocks:
        if kind == "heading":
            level = body.index(" ")
            if skipped and level > skipped:
                continue
            skipped = level if level == 2 and body[level + 1 :].strip(" :").lower() in site.edit_sections else 0
            while kept and kept[-1][0] == "heading" and kept[-1][1].index(" ") >= level:
                kept.pop()
        if not skipped:
            kept.append((kind, body))
    while kept and kept[-1][0] == "heading":
        kept.pop()
    return kept


def _with_blank_lines(blocks: list[Block]) -> Iterator[str]:
    """A blank line between blocks, but none between the items of a list."""
    before = "item"
    for number, (kind, body) in enumerate(blocks):
        if number and not (kind == before and kind in ("item", "lines")):
            yield ""
        yield body.replace(BREAK, "\n")
        before = kind
