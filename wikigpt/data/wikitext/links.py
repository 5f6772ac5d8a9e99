"""Links become their labels, and templates what they show; the innermost first, in one pass."""

import re
from dataclasses import dataclass, field

from wikigpt.data.wikitext.marks import BAR, DEEPEST, EQUALS, HOLE
from wikigpt.data.wikitext.site import Site
from wikigpt.data.wikitext.templates import show

SIMPLE_LINK = re.compile(r"\[\[(?:[^\[\]{}|\n:#]*\|)?([^\[\]{}|\n:#=]+)\]\]")  # nine of ten
BRACKETS = re.compile(r"\[\[+|\]\]+|\{\{+|\}\}+")


@dataclass(slots=True)
class _Frame:
    """A link or template that is open, and what stands in it so far."""

    kind: str  # "[" or "{"
    width: int  # brackets that are still to be closed
    parts: list[str] = field(default_factory=list)


def links_and_templates(text: str, title: str, site: Site) -> str:
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


def variants(text: str, language: str) -> str:
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
