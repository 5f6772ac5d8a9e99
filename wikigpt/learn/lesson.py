"""What the chapters in lessons/ share: where pictures go, how much they do, and the text and the run that they look at.

`WIKIGPT_QUICK=1` lets a chapter do a little of everything, to see that it runs; its figures are then worth nothing.
"""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import matplotlib
from matplotlib.figure import Figure

from wikigpt.data.shards import DataFolder
from wikigpt.hardware import keep_freed_memory
from wikigpt.learn.chapters import MINE, chapters, lessons_folder, progress_of
from wikigpt.runs import Run, read_run

IN_A_NOTEBOOK = "ipykernel" in sys.modules


def begin() -> None:
    """For the first line of a chapter: figures are for files where there is no notebook, and memory is kept for the next
    step (twice as fast on Linux, see docs/adr/0008-keep-freed-memory.md)."""
    if not IN_A_NOTEBOOK:
        matplotlib.use("Agg")
    keep_freed_memory()


def quick() -> bool:
    """Whether this is only a try."""
    return os.environ.get("WIKIGPT_QUICK") == "1"


def few(number: int, tried: int) -> int:
    """How many of something: `number`, and `tried` where this is only a try."""
    return tried if quick() else number


def out() -> Path:
    """Where the chapters leave what they make. It may be deleted at any time."""
    folder = lessons_folder() / "out" / ("quick" if quick() else "")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def picture(figure: Figure, name: str) -> None:
    """Keeps a figure as lessons/out/<name>.png."""
    figure.tight_layout()
    figure.savefig(out() / f"{name}.png", dpi=110)
    if not IN_A_NOTEBOOK:  # a notebook shows it when the cell is done
        print(f"picture: {os.path.relpath(out() / name)}.png")


def sample() -> DataFolder:
    """The bundled sample of English Wikipedia with a BPE of 2,048 tokens, prepared when it is first asked for."""
    folder = out() / "dataset" / "en"
    if not (folder / "manifest.json").exists():
        run("prepare", "--source", "sample", "--wiki", "en", "--vocab_size", "2048")
    return DataFolder(folder)


def first_run() -> Run:
    """A GPT-2 of 0.7 million parameters, trained on the sample when it is first asked for."""
    sample()
    if not (out() / "models" / "first" / "report.html").exists():
        steps = few(1000, 10)
        words = f"train --data en --model_config tiny --max_steps {steps} --run first --dtype float32"
        run(*words.split())
    return read_run(out() / "models" / "first")


def run(*words: str) -> None:
    """A command of wikigpt in lessons/out/, as anybody would type it there."""
    print(f"$ wikigpt {' '.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "wikigpt", *words],
        cwd=out(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print("".join(f"  {line}\n" for line in done.stdout.splitlines()[-3:]), end="", flush=True)
    if done.returncode:
        raise SystemExit(f"wikigpt {words[0]} ended with {done.returncode}: {done.stdout}")


def mine(name: str) -> ModuleType:
    """The learner's module of that name where it and what it builds on pass their checks, in the current folder or beside
    lessons/; else that of the solutions."""
    root, everything = lessons_folder(), {chapter.name: chapter for chapter in chapters()}
    needed = [everything[part] for part in {"gpt": ("attention", "block", "gpt")}.get(name, (name,))]
    places = [place for place in (Path.cwd(), root.parent) if all(progress_of(c, place / MINE).done for c in needed)]
    place = places[0] if places else out() / "solutions"
    if places:
        print(f"This is your own {MINE}/{name}.py.")
    else:
        print(f"Your {MINE}/{name}.py has not passed its checks yet: this is the one in {root.name}/solutions/.")
        shutil.copytree(root / "solutions", place / MINE, dirs_exist_ok=True)
    for loaded in [module for module in sys.modules if module.split(".")[0] == MINE]:
        del sys.modules[loaded]
    sys.path.insert(0, str(place))
    try:
        return importlib.import_module(f"{MINE}.{name}")
    finally:
        sys.path.remove(str(place))
