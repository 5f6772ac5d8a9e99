"""What `wikigpt evaluate` leaves in a run, for its report, its card and whoever compares runs.

models/<run>/evaluation/step_00000873/test.json, test.tsv     figures of a split; every article
                                      tasks.json              benchmarks, by task and model
                                      lm_eval.json            lm-evaluation-harness's scores, by task
                        ladder_test.json, ladder_test.png     the ladder, of all checkpoints
"""

import json
from pathlib import Path
from typing import Any

from wikigpt.config import write_json

FOLDER = "evaluation"


def folder_of(run: Path, checkpoint: str) -> Path:
    """Where a checkpoint's figures are kept; made where it is not there."""
    folder = run / FOLDER / checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def add(path: Path, found: dict[str, Any]) -> None:
    """Adds to what was measured before, in place of what is measured anew."""
    write_json(path, read(path) | found)


def read(path: Path) -> dict[str, Any]:
    """Nothing where there is nothing, or nothing readable."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_step(run: Path, step: int | None = None) -> dict[str, dict[str, Any]]:
    """All that was measured of a step (the newest that was measured unless given), by what it is: "validation", "test",
    "tasks", "lm_eval"."""
    folders = [folder for folder in sorted((run / FOLDER).glob("step_*")) if any(folder.glob("*.json"))]
    if step is not None:
        folders = [folder for folder in folders if folder.name == f"step_{step:08d}"]
    if not folders:
        return {}
    found = {path.stem: read(path) for path in sorted(folders[-1].glob("*.json"))}
    return {name: record for name, record in found.items() if record}


def read_ladder(run: Path) -> dict[str, Any]:
    """The ladder of a run: on its test split where there is one, else on validation; nothing where there is none."""
    return next(
        (found for split in ("test", "validation") if (found := read(run / FOLDER / f"ladder_{split}.json"))), {}
    )
