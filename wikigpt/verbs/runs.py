"""`wikigpt runs`"""

from dataclasses import dataclass, field
from shlex import quote
from typing import Any

import tyro

from wikigpt.verbs.common import Common, Outcome, Settings


@dataclass
class Runs:
    """List all runs, the newest first, and for each the next command. `runs compare` sets some side by side, `runs inspect`
    looks inside one."""

    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.runs import list_runs

        runs = [_row(run) for run in list_runs(settings.MODEL_DIR)]
        if not self.common.json:
            _print(runs, settings.MODEL_DIR)
        return Outcome({"runs": runs})


def _row(run: Any) -> dict[str, Any]:
    from wikigpt.metrics import last_score, read_all

    config, name = run.config, quote(run.name)
    score = last_score(read_all(run.path))
    command = f"wikigpt generate --run {name} --title TITLE" if run.finished else f"wikigpt train --run {name}"
    return {
        "name": run.name,
        "data": config.data_name,
        "model_config": config.model_config,
        "parameters": config.model.n_parameters,
        "tokens": run.tokens,
        "bits_per_byte": score["bits_per_byte"] if score else None,
        "step": run.step,
        "total_steps": config.total_steps,
        "state": run.state,
        "next": command,
    }


def _print(runs: list[dict[str, Any]], model_dir: str) -> None:
    if not runs:
        print(f"{model_dir}/ has no runs yet; make one with: wikigpt train")
        return
    table = [("run", "data", "model", "parameters", "tokens", "bits/byte", "state")]
    for row in runs:
        bits = "-" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.3f}"
        size, tokens = f"{row['parameters'] / 1e6:,.1f} M", f"{row['tokens'] / 1e6:,.2f} M"
        table.append((row["name"], row["data"], row["model_config"], size, tokens, bits, row["state"]))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for number, line in enumerate(table):
        cells = [
            cell.rjust(width) if 3 <= column <= 5 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        if number:
            print(f"    {runs[number - 1]['next']}")
