"""Several runs side by side: what they cost, how good they became, and in what they differ.

run folders ──> Compared ──> one table, the settings that differ, one plot against tokens, FLOPs and time
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wikigpt.config import flat
from wikigpt.evaluate.articles import interval
from wikigpt.evaluate.kept import FOLDER, read
from wikigpt.metrics import last_score, picture_of_many, read_all
from wikigpt.runs import Run

UNSAID = {"source", "init_source", "data_hash", "tokenizer_hash", "init_hash"}  # the names say enough


@dataclass(frozen=True)
class Compared:
    """`rows` is a record for each run; `differences` gives each run's value of every setting in which they differ; `paired`
    is the difference on the same articles, where `evaluate` has scored both."""

    rows: list[dict[str, Any]]
    differences: dict[str, list[Any]]
    measure: str  # "loss", or "bits_per_byte" where tokenizers differ
    same_articles: bool
    paired: list[dict[str, Any]]


def compare(runs: Sequence[Run]) -> Compared:
    """Reads what the runs have written."""
    configs = [run.config for run in runs]
    settings = [flat(asdict(config)) for config in configs]
    names = [name for name in settings[0] if name not in UNSAID]
    differing = {name: values for name in names if len(set(map(str, values := [s.get(name) for s in settings]))) > 1}
    same_tokens = len({config.tokenizer_hash for config in configs}) == 1
    return Compared(
        rows=[_row(run) for run in runs],
        differences=differing,
        measure="loss" if same_tokens else "bits_per_byte",
        same_articles=len({config.data_hash for config in configs}) == 1,
        paired=[found for other in runs[1:] if (found := paired(runs[0], other)) is not None],
    )


def _row(run: Run) -> dict[str, Any]:
    rows = read_all(run.path)
    last, score = rows["train"][-1] if rows["train"] else {}, last_score(rows) or {}
    return {
        "run": run.name,
        "model_config": run.config.model_config,
        "parameters": run.config.model.n_parameters,
        "tokens": run.tokens,
        "flops": last.get("flops"),
        "seconds": last.get("seconds"),
        "loss": score.get("loss"),
        "bits_per_byte": score.get("bits_per_byte"),
        "part": score.get("part"),  # which tokens these are of
        "state": run.state,
    }


def paired(one: Run, other: Run) -> dict[str, Any] | None:
    """By how many bits per byte `other` is better than `one` on the very same articles that neither was trained on, with an
    interval: articles are resampled for both alike, so that how hard they are falls out. None where `evaluate` has not
    scored both in the same way (context, stride, precision).

    Source: Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation" (paired bootstrap).
    """
    for split in ("test", "validation"):
        mine, theirs = (_articles(run, split) for run in (one, other))
        how = [[_record(run, split).get(name) for name in ("context", "stride", "dtype")] for run in (one, other)]
        same = mine.keys() == theirs.keys() and all(mine[key][1] == theirs[key][1] for key in mine)
        counted = [key for key in mine if same and not (mine[key][2] or theirs[key][2])]
        if counted and how[0] == how[1]:
            gains = [(mine[key][0] - theirs[key][0]) / math.log(2) for key in counted]
            sizes = [float(mine[key][1]) for key in counted]
            record = {"run": one.name, "other": other.name, "split": split, "articles": len(counted)}
            return record | {"better_by": sum(gains) / sum(sizes), "interval": interval(gains, sizes)}
    return None


def _record(run: Run, split: str) -> dict[str, Any]:
    return read(run.path / FOLDER / f"step_{run.step:08d}" / f"{split}.json")


def _articles(run: Run, split: str) -> dict[tuple[str, str, str], tuple[float, int, bool]]:
    """Nats and bytes of each article, and whether it was trained on, as `evaluate` found them at the run's newest step."""
    path = run.path / FOLDER / f"step_{run.step:08d}" / f"{split}.tsv"
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {
            (r["folder"], r["id"], r["title"]): (float(r["nats"]), int(r["bytes"]), r["trained_on"] == "True")
            for r in rows
        }


def plot(runs: Sequence[Run], compared: Compared, path: Path) -> Path:
    """Validation loss (bits per byte where tokenizers differ) against tokens, FLOPs and time in steps."""
    names = [run.name for run in runs]
    names = [str(run.path) if names.count(run.name) > 1 else run.name for run in runs]
    curves = [(name.replace("$", r"\$"), _curve(run, compared.measure)) for name, run in zip(names, runs, strict=True)]

    def draw(axes: Any, along: str) -> None:
        for name, points in curves:
            shown = [point for point in points if point[along] and point[along] > 0]
            axes.plot([p[along] for p in shown], [p["value"] for p in shown], "o-", markersize=2.5, label=name)
        unit = {"tokens": "tokens", "flops": "FLOPs", "seconds": "seconds in training steps"}[along]
        axes.set(xlabel=unit, xscale="log")
        axes.grid(alpha=0.25, which="both")

    label = "validation loss (nats per token)" if compared.measure == "loss" else "bits per byte, validation"
    return picture_of_many(draw, ("tokens", "flops", "seconds"), path, label)


def _curve(run: Run, measure: str) -> list[dict[str, float]]:
    """Every evaluation of a run with what had been spent until then."""
    rows = read_all(run.path)
    spent = {row["step"]: row for row in rows["train"]}
    return [
        {"value": row[measure], **{key: spent[row["step"]][key] for key in ("tokens", "flops", "seconds")}}
        for row in rows["validation"]
        if row["step"] in spent and measure in row
    ]
