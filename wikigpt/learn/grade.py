"""Checks what a learner has written: in a process of its own, so that nothing there can hurt or hold up this one.

my_gpt/name.py ──> judge.py, at most SECONDS ──> Verdict
"""

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from wikigpt.errors import ConfigError
from wikigpt.learn.chapters import MINE, Chapter

SECONDS = 120


@dataclass
class Verdict:
    """What came of a chapter's checks: all there are with their hints, those passed, and what is wrong with the next (None
    where nothing is)."""

    checks: list[dict[str, Any]] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    failed: str | None = None
    wrong: str | None = None


def grade(chapter: Chapter, seconds: float = SECONDS) -> Verdict:
    """Runs the checks of a chapter on the learner's file. What the learner's code prints goes to the standard error. Raises
    ConfigError where there is no such file."""
    mine = Path(MINE) / f"{chapter.name}.py"
    if not mine.exists():
        raise ConfigError(f"{mine} is not there.", f"Begin with: wikigpt learn start {chapter.number}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        command = [sys.executable, "-m", "wikigpt.learn.judge", str(chapter.checks), chapter.name, str(report)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno())
        ended: str | None = None
        try:
            code = process.wait(seconds)
            if code:
                name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                ended = f"the process ended by itself ({name})"
        except subprocess.TimeoutExpired:
            ended = f"it had not ended after {seconds:g} seconds"
        finally:
            _kill(process)
        return _verdict(report, ended)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It and whatever it has started."""
    with suppress(psutil.NoSuchProcess):
        whole = psutil.Process(process.pid)
        for one in [*whole.children(recursive=True), whole]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _verdict(report: Path, ended: str | None) -> Verdict:
    verdict, begun = Verdict(), "reading the file"
    done = False
    for line in report.read_text(encoding="utf-8").splitlines() if report.exists() else []:
        with suppress(ValueError):  # half a line of a process that was killed
            said = json.loads(line)
            verdict.checks = said.get("checks", verdict.checks)
            begun = said.get("begun", begun)
            verdict.passed += [said["passed"]] if "passed" in said else []
            verdict.wrong = said.get("wrong", verdict.wrong)
            done = done or "done" in said
    if not done and verdict.wrong is None:
        verdict.wrong = f"while it was being checked, {ended or 'the process ended by itself (exit code 0)'}."
    if verdict.wrong is not None:
        verdict.failed = begun
    return verdict
