"""Checks what a learner has written: in a process of its own, so that a crash or a loop there does not hold up this one.

my_gpt/name.py ──> judge.py, at most SECONDS ──> Verdict
"""

import json
import os
import re
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
        command = [sys.executable, "-m", "wikigpt.learn.judge"]
        command += [str(chapter.checks), chapter.name, str(report), str(seconds)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=_standard_error(),
            env=os.environ | {"PYTHONUTF8": "1"},
            start_new_session=os.name == "posix",
        )
        ended: str | None = None
        try:
            code = process.wait(seconds + 1)  # where it is then, it writes down itself
            if code:
                name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                ended = f"the process ended by itself ({name})"
        except subprocess.TimeoutExpired:
            ended = f"it had not ended after {seconds:g} seconds{_where(report.with_name('report.where'))}"
        finally:
            _kill(process)
        return _verdict(report, ended)


def _where(traceback: Path) -> str:
    """The learner's line that was at work, of a traceback with the last call first."""
    text = traceback.read_text(encoding="utf-8", errors="replace") if traceback.exists() else ""
    found = re.search(rf'File "[^"\n]*[/\\\\]{MINE}[/\\\\]([^"/\\\\\n]+)", line (\d+)', text)
    return f", at {MINE}/{found[1]}, line {found[2]}" if found else ""


def _standard_error() -> int:
    """Where what the learner's code prints goes, but where there is no such file."""
    try:
        return sys.stderr.fileno()
    except (OSError, AttributeError):  # it was replaced by something in memory
        return subprocess.DEVNULL


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It and whatever it has started, also what has outlived it."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(psutil.NoSuchProcess):
        whole = psutil.Process(process.pid)
        for one in [*whole.children(recursive=True), whole]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _verdict(report: Path, ended: str | None) -> Verdict:
    verdict, begun = Verdict(), "reading the file"
    done = False
    for line in report.read_text(encoding="utf-8", errors="replace").splitlines() if report.exists() else []:
        with suppress(ValueError):  # half a line of a process that was killed
            said = json.loads(line)
            if not isinstance(said, dict):
                continue
            verdict.checks = said.get("checks", verdict.checks)
            begun = said.get("begun", begun)
            verdict.passed += [said["passed"]] if "passed" in said else []
            verdict.wrong = said.get("wrong", verdict.wrong)
            done = done or "done" in said
    if not (done and verdict.passed == [check["title"] for check in verdict.checks]) and verdict.wrong is None:
        verdict.wrong = f"while it was being checked, {ended or 'the process ended by itself (exit code 0)'}."
    if verdict.wrong is not None:
        verdict.failed = begun
    return verdict
