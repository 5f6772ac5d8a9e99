"""What a run reports while it trains.

    one row per step ──> metrics.jsonl (append-only) ──┬──> terminal, live
                                                       └──> loss.png

A row is one JSON object. Every field of these kinds is a contract with whatever reads a run folder:

    kind "start"       step (0, or that of the checkpoint that a resumed run goes on from: what an earlier attempt wrote
                       about later steps counts no more)
    kind "train"       step (the one just finished, from 1), tokens, flops, seconds (these three since the start of the
                       run, seconds in steps only), loss (nats per token), learning_rate, grad_norm (before clipping),
                       data_seconds (spent on reading this batch; on a card while it works) and their data_share of
                       the step (0 to 1), tokens_per_second (of all ranks), mfu (0 to 1), memory (bytes, of the first)
    kind "validation"  step, tokens, part (which tokens of the split), loss, perplexity, bits_per_byte, scored_tokens,
                       scored_bytes, bigram_bits_per_byte (on the same tokens)
    kind "final"       the same over all of the split
"""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from wikigpt.trackers import Tracker

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends rows to metrics.jsonl, each in one write, and hands them to a tracker where there is one."""

    def __init__(self, run: Path, tracker: Tracker | None = None) -> None:
        path, self.tracker = run / METRICS, tracker
        torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - lives as long as the run
        if torn:  # a row cut off by a kill: end its line, so that it spoils no other
            self._file.write("\n")

    def write(self, kind: str, **row: float | str | None) -> None:
        self._file.write(json.dumps({"kind": kind, **row}, allow_nan=False) + "\n")
        if self.tracker is not None:
            self.tracker.write(kind, row)

    def close(self) -> None:
        self._file.close()
        if self.tracker is not None:
            self.tracker.close()


Rows = dict[str, list[dict[str, Any]]]  # by kind


def read_metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """Rows of one kind; where several are wanted, `read_all` reads the file once."""
    return read_all(run)[kind]


def read_all(run: Path) -> Rows:
    """Rows by kind, in the order of their steps, each step once: the last that was written, of those that count. A row cut
    off by a kill is passed over."""
    rows: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in ("train", "validation", "final")}
    path = run / METRICS
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or not {"kind", "step"} <= row.keys():
            continue
        if row["kind"] == "start":
            for kind, seen in rows.items():
                rows[kind] = {step: kept for step, kept in seen.items() if step <= row["step"]}
        elif row["kind"] in rows:
            rows[row["kind"]][row["step"]] = row
    return {kind: [seen[step] for step in sorted(seen)] for kind, seen in rows.items()}


def last_score(rows: Rows) -> dict[str, Any] | None:
    """The figures that a run is judged by: over all of the validation split, or the newest over a part of it."""
    scores = rows["final"] or rows["validation"]
    return scores[-1] if scores else None


def plot_loss(run: Path, title: str, path: Path | None = None) -> Path:
    """Draws loss.png (or another file): training and validation loss, bits per byte beside the bigram's, and the learning
    rate."""
    pyplot = _pyplot()
    figure, (loss, bits) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title, parse_math=False)
    rows = read_all(run)
    draw_loss(loss, rows)
    draw_bits(bits, rows)
    path = path or run / "loss.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def picture(draw: Callable[[Any, Any], None], figures: Any, path: Path, title: str, height: float = 4.2) -> Path:
    """One plot as a PNG file."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
    axes.set_title(title, parse_math=False)
    draw(axes, figures)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def picture_of_many(draw: Callable[[Any, Any], None], panels: Sequence[Any], path: Path, label: str) -> Path:
    """One plot for each of `panels` beside each other as a PNG file, with one label and one legend."""
    pyplot = _pyplot()
    figure, all_axes = pyplot.subplots(
        1, len(panels), figsize=(5 * len(panels), 4.4), layout="constrained", sharey=True
    )
    for axes, panel in zip(all_axes, panels, strict=True):
        draw(axes, panel)
    all_axes[0].set_ylabel(label)
    all_axes[-1].legend(framealpha=0)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def svg(draw: Callable[[Any, Any], None], rows: Any, height: float = 4) -> str:
    """One plot as an SVG element, legible on a light and on a dark page."""
    pyplot = _pyplot()
    grey = "#808080"
    style = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), grey)
    with pyplot.rc_context({**style, "svg.fonttype": "none", "svg.hashsalt": "wikigpt", "font.family": "sans-serif"}):
        figure, axes = pyplot.subplots(figsize=(6, height), layout="constrained")
        draw(axes, rows)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    return out.getvalue()[out.getvalue().index("<svg") :]


def draw_loss(axes: Any, rows: Rows) -> None:
    """Training and validation loss, and the learning rate."""
    train, validation = thinned(rows["train"]), rows["validation"]
    tokens, losses = [row["tokens"] / 1e6 for row in train], [row["loss"] for row in train]
    axes.plot(tokens, losses, color="#9ec5e8", linewidth=0.8, label="training, each step")
    axes.plot(tokens, _smooth(losses), color="#1f6fb4", label="training, smoothed")
    seen = [row["tokens"] / 1e6 for row in validation]
    axes.plot(seen, [row["loss"] for row in validation], "o-", color="#d1495b", markersize=3, label="validation")
    axes.set(xlabel="million tokens", ylabel="loss (nats per token)")
    axes.legend(framealpha=0)
    axes.grid(alpha=0.25)
    rate = axes.twinx()
    rate.plot(tokens, [row["learning_rate"] for row in train], color="#aaaaaa", linewidth=0.8)
    rate.set_ylabel("learning rate")


def draw_bits(axes: Any, rows: Rows) -> None:
    """Bits per byte of the validation split, beside the bigram's."""
    validation = rows["validation"]
    seen = [row["tokens"] / 1e6 for row in validation]
    bits = [row["bits_per_byte"] for row in validation]
    axes.plot(seen, bits, "o-", color="#d1495b", markersize=3, label="validation")
    if validation:
        bigram = validation[-1]["bigram_bits_per_byte"]
        axes.axhline(bigram, color="#888888", linestyle="--", label=f"Kneser-Ney bigram {bigram:.2f}")
    axes.set(xlabel="million tokens", ylabel="bits per byte")
    axes.legend(framealpha=0)
    axes.grid(alpha=0.25)


def thinned(rows: list[dict[str, Any]], most: int = 2000) -> list[dict[str, Any]]:
    """Every so many rows, the last one too: no screen shows more."""
    every = -(-len(rows) // most) or 1
    return rows[: len(rows) - 1 : every] + rows[-1:] if len(rows) > most else rows


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _smooth(values: list[float]) -> list[float]:
    """Exponential moving average without the pull of its start, over about a tenth of a short run."""
    keep = max(0.0, min(0.97, 1 - 10 / max(1, len(values))))
    smoothed, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + 1 - keep
        smoothed.append(total / weight)
    return smoothed


class LiveView:
    """The last row of each kind on the terminal, redrawn in place; plain lines where the output is no terminal."""

    def __init__(self, total_steps: int, start_step: int, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.total_steps = total_steps
        self.progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            console=self.console,
        )  # fmt: skip
        self.task = self.progress.add_task("training", total=total_steps, completed=start_step, left="")
        self.validation, self.left = "", ""
        self.row: dict[str, Any] = {}
        self._live = Live(self.progress, console=self.console, refresh_per_second=4)

    def __enter__(self) -> "LiveView":
        if self.console.is_terminal and not self.console.quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal and not self.console.quiet:
            self._live.stop()

    def train(self, row: dict[str, Any], seconds_per_step: float) -> None:
        """Shows a training row; `seconds_per_step` includes evaluation, sampling and saving."""
        self.row, self.left = row, f"{duration((self.total_steps - row['step']) * seconds_per_step)} left"
        if self.console.is_terminal:
            self.progress.update(self.task, completed=row["step"], left=self.left)
            table = Table.grid(padding=(0, 2))
            table.add_row(*self._words(row).split("  "))
            self._live.update(Group(self.progress, table))

    def validated(self, row: dict[str, Any]) -> None:
        """Takes in a validation row; where the output is no terminal, this is when a line is printed."""
        self.validation = f"validation {row['loss']:.3f} ({row['bits_per_byte']:.3f} bits/byte)"
        if not self.console.is_terminal:
            words = f"{self._words(self.row)}  {self.left}" if self.row else self.validation
            self.console.print(f"step {row['step']:,}/{self.total_steps:,}  {words}", soft_wrap=True)

    def _words(self, row: dict[str, Any]) -> str:
        speed = f"{row['tokens_per_second']:,.0f} tokens/s  MFU {row['mfu']:.0%}  {row['memory'] / 2**30:.1f} GiB"
        speed += f"  data {row['data_share']:.1%}"
        return f"loss {row['loss']:.3f}  {self.validation}  rate {row['learning_rate']:.1e}  {speed}"


def duration(seconds: float) -> str:
    """As h:mm:ss, below an hour as m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
