"""What is cut out of a page or put by before anything else is looked at: comments, references, formulas, code."""

import re

from wikigpt.data.wikitext.marks import CLOSE, HIDDEN, HOLE, OPEN

CUT = """ref references gallery imagemap timeline graph score hiero templatestyles section mapframe maplink templatedata
inputbox categorytree indicator includeonly noinclude dynamicpagelist charinsert listing rss randomselection""".split()
KEPT = "nowiki math chem ce pre syntaxhighlight source".split()
ASIDE = re.compile(
    rf"<(?:!--|({'|'.join(sorted(CUT + KEPT, key=len, reverse=True))})(?=[\s/>])((?:[^<>\"]|\"[^\"<>]*\")*?)(/?)>)",
    re.I,
)


def set_aside(text: str, aside: list[str]) -> str:
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
