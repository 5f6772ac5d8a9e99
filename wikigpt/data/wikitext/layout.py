"""Lines: headings, lists, tables, paragraphs."""

import re
from collections.abc import Iterator

from wikigpt.data.wikitext.marks import BREAK, DEEPEST
from wikigpt.data.wikitext.site import Site

Block = tuple[str, str]  # heading | item | text | lines | rows; its text

COORDINATES = re.compile(r"[0-9.°′″]+[NS] [0-9.°′″]+[EW]")  # alone in a paragraph
HEADING = re.compile(r"(={1,6})[ \t\xa0]*(.+?)[ \t\xa0]*\1\s*$")
TABLE_START = re.compile(r"[ \t:*#;]*\{\|")
LIST = re.compile(r"[*#:;]+")


def laid_out(text: str, site: Site) -> str:
    """A page whose inline mark-up is gone, as text."""
    return "\n".join(_with_blank_lines(_sections(list(_blocks(text, site.joiner)), site)))


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


def _sections(found: list[Block], site: Site) -> list[Block]:
    """Leaves out the sections that hold references alone, and headings that nothing is left under."""
    kept: list[Block] = []
    skipped = 0  # level of the section that is left out
    for kind, body in found:
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


def _with_blank_lines(found: list[Block]) -> Iterator[str]:
    """A blank line between blocks, but none between the items of a list."""
    before = "item"
    for number, (kind, body) in enumerate(found):
        if number and not (kind == before and kind in ("item", "lines")):
            yield ""
        yield body.replace(BREAK, "\n")
        before = kind
