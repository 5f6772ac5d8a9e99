"""Watch it learn to write: samples.md as a picture that moves, from noise to prose.

samples.md, metrics.jsonl ──> one frame for each step ──> writing.svg

No script and no font of its own: any language, and wherever pictures are shown.
"""

import re
import unicodedata
from collections.abc import Iterator
from html import escape
from pathlib import Path

from wikigpt.config import write_text
from wikigpt.errors import RunError
from wikigpt.metrics import read_all
from wikigpt.report import read_samples
from wikigpt.runs import Run

COLUMNS, LINES = 72, 7
SECONDS, HOLD = 2.2, 5.0  # that a frame is shown, and the last one longer


def write_writing(run: Run, title: str | None = None, path: Path | None = None, until: int | None = None) -> Path:
    """Draws what a run wrote for one title (the last of its samples unless given), up to step `until`, into its folder or to
    `path`. Raises RunError where it wrote nothing, or nothing for that title."""
    found = [(_number(step), dict(samples)) for step, samples in read_samples(run.path / "samples.md")]
    found = [(step, samples) for step, samples in found if samples and (until is None or step <= until)]
    if not found:
        raise RunError(f"{run.name} has written no samples yet.", "Train it a little, or name another run.")
    titles = list(found[-1][1])
    title = titles[-1] if title is None else title
    frames = [(step, samples[title]) for step, samples in found if title in samples]
    if not frames:
        raise RunError(f"{run.name} wrote nothing for {title!r}.", f"It wrote for: {', '.join(titles)}.")
    path = path or run.path / "writing.svg"
    rows = read_all(run.path)
    losses = {row["step"]: row["loss"] for row in (*rows["train"], *rows["validation"])}
    write_text(path, svg(title, frames, losses, run.config.tokens_per_step))
    return path


def svg(title: str, frames: list[tuple[int, str]], losses: dict[int, float], tokens_per_step: int) -> str:
    """Every frame is a group that CSS shows in its turn; where nothing moves, the last one stands."""
    whole = len(frames) * SECONDS + HOLD
    width, height = 700, 92 + 22 * LINES
    rules, groups = [], []
    for number, (step, text) in enumerate(frames):
        begin, last = 100 * number * SECONDS / whole, number == len(frames) - 1
        end = 100.0 if last else 100 * (number + 1) * SECONDS / whole
        rules.append(_rule(number, begin, end, last))
        measured = f", loss {losses[step]:.2f}" if step in losses else ""
        caption = f"step {step:,}, {step * tokens_per_step / 1e6:,.2f} million tokens{measured}"
        done = width * (step / max(1, frames[-1][0]))
        groups.append(
            f'<g class="f f{number}"><rect class="bar" x="0" y="{height - 4}" width="{done:.0f}" height="4"/>'
            f'<text class="note" x="20" y="{height - 16}">{escape(caption)}</text>{_paragraph(text, width)}</g>'
        )
    style = (
        "text{font:15px ui-monospace,Menlo,Consolas,monospace;fill:#1b1f27;white-space:pre}"
        ".title{font-weight:700;font-size:18px}"
        ".note{font-size:13px;opacity:.75}.bar{fill:#d1495b}.page{fill:#fbfaf7}.f{opacity:0}"
        f".f{len(frames) - 1}{{opacity:1}}"
        "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.page{fill:#1b1f27}}"
        f"@media(prefers-reduced-motion:no-preference){{{''.join(rules)}}}"
    )
    style += (
        f".f{{animation-duration:{whole:.1f}s;animation-iteration-count:infinite;animation-timing-function:step-end}}"
    )
    label = escape(drawable(f"What the model writes for {title}, from its first step to its last"), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}"><style>{style}</style>'
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>'
        f'<text class="title" x="20" y="34"># {escape(drawable(title))}</text>{"".join(groups)}</svg>\n'
    )


def _rule(number: int, begin: float, end: float, last: bool) -> str:
    """Seen from `begin` to `end` percent of the time."""
    frames = [] if begin == 0 else ["0%{opacity:0}"]
    frames.append(f"{begin:.2f}%{{opacity:1}}")
    if not last:
        frames.append(f"{end:.2f}%{{opacity:0}}")
    frames.append(f"100%{{opacity:{int(last)}}}")
    return f"@keyframes k{number}{{{''.join(frames)}}}.f{number}{{animation-name:k{number}}}"


def _paragraph(text: str, width: int) -> str:
    """Its first lines; text of a script that runs from the right begins there."""
    strong = next((d for sign in text if (d := unicodedata.bidirectional(sign)) in ("L", "R", "AL")), "L")
    right = strong != "L"
    lines = list(wrapped(" ".join(drawable(text).split()), COLUMNS))
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], lines[LINES - 1][: COLUMNS - 2] + " …"]
    at = f'x="{width - 20}" direction="rtl"' if right else 'x="20"'
    return "".join(f'<text {at} y="{64 + 22 * number}">{escape(line)}</text>' for number, line in enumerate(lines))


def wrapped(text: str, columns: int) -> Iterator[str]:
    """Lines of at most so many columns, of which a Chinese sign takes two; broken at spaces where there are any."""
    line, taken = "", 0
    for word in re.findall(r"\S+\s*", text):
        if taken + _columns(word.rstrip()) > columns and line:
            yield line.rstrip()
            line, taken = "", 0
        for sign in word:  # a word that is longer than a line, or a script without spaces
            if taken + _columns(sign) > columns and sign != " ":
                yield line.rstrip()
                line, taken = "", 0
            line, taken = line + sign, taken + _columns(sign)
    if line:
        yield line.rstrip()


def drawable(text: str) -> str:
    """A text that XML can hold: control characters, which a young model writes, become boxes."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "▯", text)


def _columns(text: str) -> int:
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _number(step: str) -> int:
    return int(re.sub(r"\D", "", step) or 0)
