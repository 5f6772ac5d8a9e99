"""`wikigpt learn`, `learn start`, `learn check` and `learn hint`"""

import os
import re
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings

UNREAD = [
    "Python could not even read the file, so nothing was checked: go to the line that is named above, and mend that first.",
    "A file may use others of yours: each must be there. `wikigpt learn` shows which you have begun.",
]
Number = Annotated[int, tyro.conf.arg(metavar="CHAPTER")]


@dataclass
class Learn:
    """List the chapters of the course, and how far you have come. `learn start 3` gives you the exercise of chapter 3,
    `learn check 3` checks what you wrote, `learn hint 3` helps with what is wrong."""

    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.learn.chapters import MINE, chapters, progress_of

        rows: list[dict[str, Any]] = []
        for chapter in chapters():
            progress = progress_of(chapter)
            mine = os.path.join(MINE, f"{chapter.name}.py")
            state = f"{progress.passed} of {progress.checks} checks" if progress.checks else "begun"
            state = "done" if progress.done else state if os.path.exists(mine) else ""
            text = os.path.relpath(chapter.path)
            rows.append({"number": chapter.number, "title": chapter.title, "text": text, "state": state, "mine": mine})
        to_do = [row for row in rows if row["state"] != "done"]
        if not self.common.json:
            width = max(len(row["title"]) for row in rows)
            wide = max(len(row["text"]) for row in rows)
            for row in rows:
                print(f"{row['number']:>3}  {row['title']:<{width}}  {row['text']:<{wide}}  {row['state']}".rstrip())
            where = os.path.abspath(MINE)
            print(f"Your files: {where}" if os.path.isdir(MINE) else f"Your files will lie in {where}")
            print(_next(to_do[0]) if to_do else "All done: it is your GPT.")
        return Outcome({"chapters": rows})


def _next(row: dict[str, Any]) -> str:
    verb = "check" if row["state"] else "start"
    return f"Next: read {row['text']}, then: wikigpt learn {verb} {row['number']}"


@dataclass
class LearnStart:
    """Copy the exercise of a chapter into my_gpt/, where you write it."""

    chapter: tyro.conf.Positional[Number]
    """its number"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.learn.chapters import find_chapter, start

        chapter = find_chapter(self.chapter)
        mine = start(chapter)
        if not self.common.json:
            print(f"{mine} is yours: write what is missing there.")
            print(f"Read {os.path.relpath(chapter.path)} beside it; then: wikigpt learn check {chapter.number}")
        return Outcome({"chapter": chapter.number, "file": str(mine)})


@dataclass
class LearnCheck:
    """Check what you wrote in my_gpt/ for a chapter: what is right, and what is wrong with the first thing that is not."""

    chapter: tyro.conf.Positional[Number]
    """its number"""
    seconds: float = 120.0
    """after so long it is stopped"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.learn.chapters import MINE, Progress, find_chapter, keep_progress, progress_of
        from wikigpt.learn.grade import grade

        if not 0 < self.seconds <= 86_400:
            raise ConfigError(f"seconds is {self.seconds}.", "Give a number above 0, up to a day of them.")
        chapter = find_chapter(self.chapter)
        out = sys.stderr if self.common.json else sys.stdout
        verdict = grade(chapter, self.seconds)
        before = progress_of(chapter)
        hints = next((check["hints"] for check in verdict.checks if check["title"] == verdict.failed), UNREAD)
        shown = before.shown if before.failed == verdict.failed else 0
        progress = Progress(len(verdict.passed), len(verdict.checks), verdict.failed, hints, shown)
        keep_progress(chapter, progress)
        for title in verdict.passed:
            print(f"  right  {title}", file=out)
        if verdict.failed is None:
            print(f"All {len(verdict.passed)} checks pass: chapter {chapter.number} is done.", file=out)
        else:
            print(f"  wrong  {verdict.failed}\n         {verdict.wrong}", file=out)
            named = re.search(rf"{MINE}/\w+\.py", verdict.wrong or "")
            mend = named[0] if named else f"{MINE}/{chapter.name}.py"
            print(f"Mend {mend}, or ask for help: wikigpt learn hint {chapter.number}", file=out)
        record = {"chapter": chapter.number, "done": progress.done, **vars(verdict)}
        return Outcome(record, 0 if verdict.failed is None else 2)


@dataclass
class LearnHint:
    """Help with the check that failed last, one step at a time: each call says more, and at the end where a solution is."""

    chapter: tyro.conf.Positional[Number]
    """its number"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.learn.chapters import find_chapter, keep_progress, progress_of

        chapter = find_chapter(self.chapter)
        progress = progress_of(chapter)
        if progress.done:
            raise ConfigError("Nothing is wrong there.", "Go on with the next chapter: wikigpt learn")
        if progress.failed is None:
            raise ConfigError("Nothing was checked yet.", f"Run: wikigpt learn check {chapter.number}")
        number, of = progress.shown + 1, len(progress.hints)
        last = number > of
        if last:
            hint = f"There is no further hint. A solution: {os.path.relpath(chapter.solution)}"
        else:
            hint = progress.hints[progress.shown]
            progress.shown = number
            keep_progress(chapter, progress)
        if not self.common.json:
            print(hint if last else f"{progress.failed}, hint {number} of {of}:\n  {hint}")
        return Outcome({"check": progress.failed, "hint": hint, "number": number, "of": of})
