"""The chapters of the course, and how far a learner has come.

lessons/NN-name.py ──> Chapter ──> lessons/exercises/name.py ──> my_gpt/name.py          my_gpt/progress.json
"""

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wikigpt
from wikigpt.config import write_json
from wikigpt.errors import ConfigError

MINE, PROGRESS = "my_gpt", "progress.json"  # the learner's folder, in the current one


@dataclass(frozen=True)
class Chapter:
    """A chapter: its text is `path`, its exercise lies beside it, and so do what checks it and a solution."""

    number: int
    name: str
    title: str
    path: Path

    @property
    def exercise(self) -> Path:
        return self.path.parent / "exercises" / f"{self.name}.py"

    @property
    def checks(self) -> Path:
        return self.path.parent / "checks" / f"{self.name}.py"

    @property
    def solution(self) -> Path:
        return self.path.parent / "solutions" / f"{self.name}.py"


def lessons_folder() -> Path:
    """Where the course lies: in the current folder, else in the clone that this package runs from. Raises ConfigError where
    there is none: an installed package has no lessons."""
    for folder in (Path.cwd(), Path(wikigpt.__file__).parent.parent):
        if (folder / "lessons" / "exercises").is_dir() and list((folder / "lessons").glob("00-*.py")):
            return folder / "lessons"
    raise ConfigError("There are no lessons here.", "Clone the repository, and run this in its folder.")


def chapters() -> list[Chapter]:
    """All of them, in order."""
    found = []
    for path in sorted(lessons_folder().glob("[0-9][0-9]-*.py")):
        number, name = path.stem.split("-", 1)
        heading = re.search(r"^# # Chapter \d+: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        found.append(Chapter(int(number), name, heading[1] if heading else name, path))
    return found


def find_chapter(number: int) -> Chapter:
    """Raises ConfigError where there is none."""
    everything = chapters()
    for chapter in everything:
        if chapter.number == number:
            return chapter
    raise ConfigError(f"There is no chapter {number}.", f"Take one of {', '.join(str(c.number) for c in everything)}.")


def start(chapter: Chapter) -> Path:
    """Copies a chapter's exercise to the learner. Raises ConfigError where that would overwrite something."""
    mine = Path(MINE) / chapter.exercise.name
    if os.path.lexists(mine):
        fix = f"Go on in it, or move it away to begin anew; then: wikigpt learn check {chapter.number}"
        raise ConfigError(f"{mine} is there already.", fix)
    mine.parent.mkdir(parents=True, exist_ok=True)
    part = mine.with_name(f".{mine.name}.part")
    shutil.copyfile(chapter.exercise, part)
    part.replace(mine)
    return mine


@dataclass
class Progress:
    """What a learner has done in a chapter: the checks passed when they were last run, the one that failed with its hints,
    and how many of these were shown."""

    passed: int = 0
    checks: int = 0
    failed: str | None = None
    hints: list[str] = field(default_factory=list)
    shown: int = 0

    @property
    def done(self) -> bool:
        return 0 < self.checks == self.passed


def progress_of(chapter: Chapter, mine: Path = Path(MINE)) -> Progress:
    """Nothing where there is none, or none that can be read."""
    try:
        kept = json.loads((mine / PROGRESS).read_text(encoding="utf-8"))[chapter.name]
        hints = [str(hint) for hint in kept["hints"]]
        return Progress(int(kept["passed"]), int(kept["checks"]), kept["failed"], hints, int(kept["shown"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Progress()


def keep_progress(chapter: Chapter, progress: Progress) -> None:
    kept: dict[str, Any] = {}
    path = Path(MINE) / PROGRESS
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        kept = read if isinstance(read, dict) else {}
    except (OSError, ValueError):
        pass
    write_json(path, kept | {chapter.name: vars(progress)})
