"""`wikigpt runs compare`"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from loguru import logger

from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings

if TYPE_CHECKING:
    from wikigpt.analysis.compare import Compared


@dataclass
class RunsCompare:
    """Runs side by side: one table, the settings in which they differ, and their curves against tokens, FLOPs and time."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """names or paths of two or more runs"""
    out: Path = Path("comparison.png")
    """the picture to write"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.analysis.compare import compare, plot
        from wikigpt.runs import choose_run

        if self.out.suffix.lower() not in PICTURES:
            raise ConfigError(f"{self.out} is no picture that can be written.", f"End it in {', '.join(PICTURES)}.")
        if len(self.runs) < 2:
            raise ConfigError(f"{len(self.runs)} run was named.", "Name two or more; wikigpt runs lists them.")
        runs = [choose_run(settings.MODEL_DIR, name, None) for name in self.runs]
        if len({run.path.resolve() for run in runs}) < len(runs):
            raise ConfigError("A run was named twice.", "Name each once.")
        found = compare(runs)
        if not self.common.json:
            _print(found)
        path = plot(runs, found, self.out)
        logger.info(f"picture: {path}")
        return Outcome(asdict(found) | {"picture": str(path)})


def _print(found: "Compared") -> None:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows: list[tuple[str, ...]] = [
        ("run", "model", "parameters", "tokens", "FLOPs", "seconds", "loss", "bits/byte", "state")
    ]
    for row in found.rows:
        figures = [f"{row['parameters'] / 1e6:,.1f} M", f"{row['tokens'] / 1e6:,.2f} M"]
        figures += [number(row[key], form) for key, form in FORMS.items()]
        rows.append((row["run"], row["model_config"], *figures, row["state"]))
    _columns(rows)
    if len({row["part"] for row in found.rows}) > 1:
        print("\nThe figures are of different parts of validation, for not all of them have been scored to the end:")
        for row in found.rows:
            print(f"  {row['run']}: {row['part'] or 'nothing yet'}")
    if not found.same_articles:
        print("\nTheir validation articles are not the same: their figures are of different texts.")
    if found.measure != "loss":
        print("\nTheir tokenizers differ: a loss per token cannot be compared, bits per byte can.")
    print("\nIn what they differ:" if found.differences else "\nTheir settings are the same.")
    if found.differences:
        names = [row["run"] for row in found.rows]
        _columns([("", *names), *((name, *map(_short, values)) for name, values in found.differences.items())])
    for pair in found.paired:
        spread = "" if pair["interval"] is None else " (95%: {:+.4f} to {:+.4f})".format(*pair["interval"])
        print(
            f"\n{pair['run']} needs {pair['better_by']:+.4f} bits per byte{spread} compared with {pair['other']}, "
            f"on the same {pair['articles']:,} {pair['split']} articles"
        )


PICTURES = (".png", ".svg", ".pdf", ".jpg")
FORMS = {"flops": ".3g", "seconds": ",.0f", "loss": ".3f", "bits_per_byte": ".3f"}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 32 else f"…{text[-31:]}"


def _columns(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
