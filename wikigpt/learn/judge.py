"""The process in which a learner's code is checked: `python -m wikigpt.learn.judge CHECKS NAME REPORT SECONDS`.

lessons/checks/NAME.py ──> its functions, in order ──> what came of each, as a line of JSON in the report

The checks end at the first that fails: what comes after builds on it. Whoever started this process reads the report, and
knows by the last line whether it came to its end. After SECONDS, where it is lies in <report>.where.
"""

import faulthandler
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from wikigpt.learn.chapters import MINE, chapters
from wikigpt.learn.expect import Wrong


def judge(checks: Path, name: str, report: Path) -> None:
    """Runs the checks of a chapter on my_gpt/<name>.py of the current folder."""
    sys.path.insert(0, os.getcwd())
    own = os.getpid()
    with open(report, "a", encoding="utf-8") as file:

        def say(**what: Any) -> None:
            if os.getpid() != own:  # a copy of this process, which the learner's code has made
                return
            file.write(json.dumps(what) + "\n")
            file.flush()

        functions = _functions(checks)
        say(checks=[{"title": f.title, "hints": f.hints} for f in functions])
        try:
            mine = importlib.import_module(f"{MINE}.{name}")
            for function in functions:
                say(begun=function.title)
                import torch

                torch.manual_seed(0)
                function(mine)
                say(passed=function.title)
        except BaseException as error:  # SystemExit too: it is the learner's
            say(wrong=_explained(error))
        else:
            say(done=True)


def _functions(checks: Path) -> list[Any]:
    """The checks of a file, in the order in which they stand there."""
    space: dict[str, Any] = {"__name__": "checks", "__file__": str(checks)}
    exec(compile(checks.read_text(encoding="utf-8"), str(checks), "exec"), space)
    return [value for value in space.values() if hasattr(value, "hints")]


def _explained(error: BaseException) -> str:
    """What went wrong, and in which line of the learner's."""
    if isinstance(error, Wrong):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{_own(error.filename)}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if _own(frame.filename)]
    where = f"{_own(frames[-1].filename)}, line {frames[-1].lineno}: " if frames else ""
    said = " ".join(str(error).split())
    if isinstance(error, NotImplementedError) and frames and not said and frames[-1] == every[-1]:
        return f"{where}{frames[-1].name} is not written yet."
    if isinstance(error, NotImplementedError) and "forward" in said:
        return f"A module has no `forward`, or it has another name: {said}"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(MINE):
        missing = str(error.name).removeprefix(f"{MINE}.")
        number = next((c.number for c in chapters() if c.name == missing), "")
        return f"It builds on {MINE}/{missing}.py, which is not there: wikigpt learn start {number}".rstrip()
    if isinstance(error, AttributeError) and not frames and f"module '{MINE}." in said:
        return f"{said}: a function or class of the exercise is missing, or has another name."
    if not frames and "NoneType" in said:
        return f"It gives None where something else is expected (is a `return` missing?): {every[-1].line}"
    if not frames:
        return f"What it gives cannot be used ({type(error).__name__}: {said}): {every[-1].line}"
    line = f" ({frames[-1].line})" if frames[-1].line else ""
    return f"{where}{type(error).__name__}: {said}{line}" if said else f"{where}{type(error).__name__}{line}"


def _own(filename: str | None) -> str:
    """The file's name where it is the learner's, else nothing."""
    path = Path(filename or "")
    return f"{MINE}/{path.name}" if path.parent.name == MINE else ""


if __name__ == "__main__":
    with open(f"{sys.argv[3]}.where", "w", encoding="utf-8") as where:
        faulthandler.dump_traceback_later(float(sys.argv[4]), file=where)
        judge(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
