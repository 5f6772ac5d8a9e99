"""What a run reports while it trains.

    one row per step ──> metrics.jsonl (append-only) ──┬──> terminal, live
                                                       └──> loss.png

A row is one JSON object. Every field of these three kinds is a contract with whatever reads a run folder:

    kind "train"       step (the one just finished, from 1), tokens, flops, seconds (these three since the start of the
                       run, seconds in steps only), loss (nats per token), learning_rate, grad_norm (before clipping),
                       data_seconds (lost waiting for this batch), tokens_per_second, mfu (0 to 1), memory (bytes)
    kind "validation"  step, tokens, part (which tokens of the split), loss, perplexity, bits_per_byte, scored_tokens,
                       scored_bytes, bigram_bits_per_byte (on the same tokens)
    kind "final"       the same over all of the split

After a crash a resumed run writes some steps again: of several rows for one step the last one counts.
"""

import json
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends rows to metrics.jsonl, each in one write."""

    def __init__(self, run: Path) -> None:
        path = run / METRICS
        torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - lives as long as the run
        if torn:  # a row cut off by a kill: end its line, so that it spoils no other
            self._file.write("\n")

    def write(self, kind: str, **row: float | str | None) -> None:
        self._file.write(json.dumps({"kind": kind, **row}, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


def read_metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """Rows of one kind in the order of their steps, each step once. A row cut off by a kill is passed over."""
    rows: dict[int, dict[str, Any]] = {}
    path = run / METRICS
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["kind"] == kind:
            rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


def plot_loss(run: Path, title: str) -> Path:
    """Draws loss.png: training and validation loss, bits per byte beside the bigram's, and the learning rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    train, validation = read_metrics(run, "train"), read_metrics(run, "validation")
    figure, (loss, bits) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title)
    tokens = [row["tokens"] / 1e6 for row in train]
    loss.plot(tokens, [row["loss"] for row in train], color="#9ec5e8", linewidth=0.8, label="training, each step")
    loss.plot(tokens, _smooth([row["loss"] for row in train]), color="#1f6fb4", label="training, smoothed")
    seen = [row["tokens"] / 1e6 for row in validation]
    loss.plot(seen, [row["loss"] for row in validation], "o-", color="#d1495b", markersize=3, label="validation")
    loss.set(xlabel="million tokens", ylabel="loss (nats per token)")
    loss.legend()
    rate = loss.twinx()
    rate.plot(tokens, [row["learning_rate"] for row in train], color="#bbbbbb", linewidth=0.8)
    rate.set_ylabel("learning rate", color="#999999")
    bits.plot(
        seen, [row["bits_per_byte"] for row in validation], "o-", color="#d1495b", markersize=3, label="validation"
    )
    if validation:
        bigram = validation[-1]["bigram_bits_per_byte"]
        bits.axhline(bigram, color="#666666", linestyle="--", label=f"Kneser-Ney bigram {bigram:.2f}")
    bits.set(xlabel="million tokens", ylabel="bits per byte")
    bits.legend()
    for axes in (loss, bits):
        axes.grid(alpha=0.25)
    path = run / "loss.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _smooth(values: list[float], keep: float = 0.97) -> list[float]:
    """Exponential moving average without the pull of its start."""
    smoothed, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + 1 - keep
        smoothed.append(total / weight)
    return smoothed


class LiveView:
    """The last row of each kind on the terminal, redrawn in place; plain lines where the output is no terminal."""

    def __init__(self, total_steps: int, start_step: int) -> None:
        self.console = Console(stderr=True)
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
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def train(self, row: dict[str, Any], seconds_per_step: float) -> None:
        """Shows a training row; `seconds_per_step` includes evaluation, sampling and saving."""
        self.row, self.left = row, f"{_duration((self.total_steps - row['step']) * seconds_per_step)} left"
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
        return f"loss {row['loss']:.3f}  {self.validation}  rate {row['learning_rate']:.1e}  {speed}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
