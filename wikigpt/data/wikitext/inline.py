"""Mark-up inside of lines: bold and italics, links to other sites, tags of HTML."""

import re

from wikigpt.data.wikitext.aside import CUT
from wikigpt.data.wikitext.marks import BREAK, HOLE, OPEN


def inline(text: str) -> str:
    """Takes out what stands inside of lines: bold and italics, addresses of links, tags."""
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
