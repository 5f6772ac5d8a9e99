"""What a model makes of one text, as a page that opens anywhere and as colours in the terminal.

surprise, attention, logit lens, norms, passages ──> look.html
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from wikigpt.analysis.inside import Norm
from wikigpt.analysis.memory import Passage
from wikigpt.analysis.surprise import Token
from wikigpt.analysis.writing import drawable
from wikigpt.report import page

WEB = Path(__file__).with_name("web")
LEVELS = (1, 2, 4, 8, 12)  # bits at which the colour grows stronger
TERMINAL = ("", "48;5;230;30", "48;5;222;30", "48;5;215;30", "48;5;209;97", "48;5;124;97")


@dataclass(frozen=True)
class Look:
    """All that was found out about a text; what was not asked for is empty. `words` are the pieces of the attention's and
    the lens's tokens, end-of-text the first."""

    run: str
    what: str
    note: str = ""
    url: str = ""
    tokens: Sequence[Token] = ()
    words: Sequence[str] = ()
    attention_LHTT: Tensor | None = None
    lens: Sequence[Sequence[tuple[str, float]]] = ()  # by layer, by token
    norms: Sequence[Norm] = ()
    norms_of: int = 0  # tokens
    passages: Sequence[Passage] | None = None


def html(look: Look) -> str:
    """The whole page."""
    address = f" {link(look.what, look.url)}" if look.url else ""
    parts = [f"<h1>{escape(look.what)}</h1><p>As read by {escape(look.run)}. {escape(look.note)}{address}</p>"]
    if look.tokens:
        parts.append(_surprise(look.tokens))
    if look.passages is not None:
        parts.append(_passages(look.passages))
    if look.attention_LHTT is not None:
        parts.append(_attention(look.words, look.attention_LHTT))
    if look.lens:
        parts.append(_lens(look.words, look.lens))
    if look.norms:
        parts.append(_norms(look.norms, look.norms_of))
    parts.append('<div id="tip" class="tip" aria-live="polite">Point at a token, or walk with the Tab key.</div>')
    data = json.dumps({"tokens": _rows(look.tokens), "attention": _shades(look.attention_LHTT)}, ensure_ascii=False)
    data = data.replace("<", "\\u003c")  # no text may end the script
    script = (WEB / "look.js").read_text(encoding="utf-8")
    parts.append(f'<script id="data" type="application/json">{data}</script><script>{script}</script>')
    return page(f"{look.what}: {look.run}", "\n".join(parts), (WEB / "look.css").read_text(encoding="utf-8"))


def _rows(tokens: Sequence[Token]) -> list[Any]:
    return [
        (token.text or "·", round(token.bits, 3), [(word, round(p, 4)) for word, p in token.alternatives])
        for token in tokens
    ]


def _shades(attention_LHTT: Tensor | None) -> list[list[str]]:
    """Each head's weights as bytes, 255 for all."""
    if attention_LHTT is None:
        return []
    bytes_LHTT = (attention_LHTT * 255).round().byte()
    return [[base64.b64encode(head_TT.numpy().tobytes()).decode() for head_TT in layer] for layer in bytes_LHTT]


def colour(bits: float) -> str:
    """From nothing at one bit to full at the last level."""
    strength = max(0.0, min(1.0, (bits - LEVELS[0]) / (LEVELS[-1] - LEVELS[0])))
    return f"rgba(209,73,91,{0.75 * strength:.2f})" if strength else "transparent"


def _surprise(tokens: Sequence[Token]) -> str:
    shown = "".join(
        f'<span tabindex="0" style="background:{colour(token.bits)}">{escape(token.text or "·")}</span>'
        for token in tokens
    )
    legend = "".join(f'<i style="background:{colour(bits)}">{bits}</i>' for bits in LEVELS)
    mean = sum(token.bits for token in tokens) / len(tokens)
    note = f"{len(tokens):,} tokens, {mean:.2f} bits each. <span class='scale'>bits: {legend}</span>"
    return f'<h2>Surprise</h2><p class="note">{note}</p><p id="surprise" class="text" dir="auto">{shown}</p>'


def _passages(passages: Sequence[Passage]) -> str:
    rows = "".join(
        f"<tr><td>{one.tokens}</td><td>{escape(one.text)}</td><td>{link(one.title, one.url, one.revision)}</td></tr>"
        for one in sorted(passages, key=lambda one: -one.tokens)
    )
    found = f'<div class="wide"><table><tr><th>tokens</th><th>passage</th><th>article</th></tr>{rows}</table></div>'
    return f"<h2>Where the training text says the same</h2>{found if rows else '<p>Nowhere.</p>'}"


def link(title: str, url: str, revision: str = "") -> str:
    """An article, its address and revision, as far as they are known."""
    name = escape(title) or "(untitled)"
    at = f" (revision {escape(revision)})" if revision else ""
    safe = url.startswith(("https://", "http://"))
    return (f'<a href="{escape(url)}">{name}</a>' if safe else name) + at


def _attention(words: Sequence[str], attention_LHTT: Tensor) -> str:
    L, H = attention_LHTT.shape[:2]
    # The first is end-of-text, in Latin letters: of no weight for the direction of the text.
    pieces = [f"<bdi>{escape(words[0])}</bdi>", *(escape(word or "·") for word in words[1:])]
    shown = "".join(f'<span tabindex="0">{piece}</span>' for piece in pieces)
    heads = "".join(
        f'<canvas data-head="{layer},{head}" tabindex="0" role="button" aria-label="block {layer}, head {head}"></canvas>'
        for layer in range(L)
        for head in range(H)
    )
    note = "A picture for each block (down) and head (across): row t shows which tokens position t takes from. "
    note += f"Choose one, then point at a token. Of the first {len(words)} tokens."
    grid = f'<div class="heads" style="grid-template-columns:repeat({H}, 5rem)">{heads}</div>'
    head = f'<h2>Attention: <span id="chosen"></span></h2><p class="note">{note}</p>'
    return f'{head}{grid}<p id="attention" class="text" dir="auto">{shown}</p>'


def _lens(words: Sequence[str], lens: Sequence[Sequence[tuple[str, float]]]) -> str:
    """A column for each token, a row for each depth, the last on top."""
    rows = []
    for depth in range(len(lens) - 1, -1, -1):
        name = "embeddings" if depth == 0 else f"after block {depth - 1}"
        cells = "".join(
            f'<td style="background:rgba(31,111,180,{0.7 * p:.2f})" title="{p:.1%}">{escape(_visible(word))}</td>'
            for word, p in lens[depth]
        )
        rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    read = "".join(f"<td><b>{escape(_visible(word))}</b></td>" for word in words)
    note = "What it would say next if it stopped there: the final norm and the head, applied early. "
    note += f"The stronger the colour, the surer. Of the first {len(words)} tokens."
    table = f'<div class="wide"><table class="lens">{"".join(rows)}<tr><th>read</th>{read}</tr></table></div>'
    return f'<h2>Logit lens</h2><p class="note">{note}</p>{table}'


def _visible(word: str) -> str:
    return word.replace("\n", "⏎") or "·"


def _norms(norms: Sequence[Norm], tokens: int) -> str:
    rows = "".join(
        f"<tr><th>{norm.layer}</th><td>{norm.activation:.4g}</td><td>{norm.gradient:.4g}</td></tr>" for norm in norms
    )
    note = "Activation: root mean square of what a layer hands on. "
    note += f"Gradient: length of its parameters' gradient of the mean loss of the first {tokens:,} tokens."
    head = "<tr><th></th><th>activation</th><th>gradient</th></tr>"
    return f'<h2>Norms by layer</h2><p class="note">{note}</p><div class="wide"><table>{head}{rows}</table></div>'


def in_colours(tokens: Sequence[Token]) -> str:
    """The text for a terminal, the more surprising the stronger the background. Parts of a character count with the whole;
    a line ends without colour, which some terminals would draw to the edge."""
    shown, bits = [], 0.0
    for token in tokens:
        bits += token.bits
        if not token.text:
            continue
        level, text = sum(bits >= least for least in LEVELS), drawable(token.text)
        bits = 0.0
        start, end = (f"\x1b[{TERMINAL[level]}m", "\x1b[0m") if level else ("", "")
        shown.append("\n".join(f"{start}{line}{end}" if line else "" for line in text.split("\n")))
    return "".join(shown)


def in_lines(tokens: Sequence[Token]) -> str:
    """One token a line, where there are no colours: bits, token, what was expected."""
    lines = []
    for token in tokens:
        likely = "  ".join(f"{_visible(drawable(word))} {p:.0%}" for word, p in token.alternatives)
        lines.append(f"{token.bits:6.2f}  {_visible(drawable(token.text)):16}  {likely}")
    return "\n".join(lines)
