"""The chapters run from top to bottom, and keep to the form that they promise."""

import os
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import pytest

from wikigpt.learn import chapters, lesson

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "lessons").glob("[0-9][0-9]-*.py"))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """One folder for all chapters, so that the text is prepared and the run trained once."""
    return tmp_path_factory.mktemp("lessons")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs(path, out, tmp_path, monkeypatch, capsys):
    """A little of everything in it: a name of the package that is changed breaks it here."""
    monkeypatch.setenv("WIKIGPT_QUICK", "1")
    monkeypatch.setattr(lesson, "out", lambda: out)
    monkeypatch.chdir(tmp_path)
    before = set(out.glob("*.png"))
    runpy.run_path(str(path))
    said = capsys.readouterr().out
    drawn = set(out.glob("*.png")) - before
    assert drawn and all(picture.name.startswith(path.stem[:2]) for picture in drawn)
    assert said.count("picture: ") == len(drawn)
    for picture in drawn:
        assert len({tuple(pixel) for row in matplotlib.image.imread(picture)[::9, ::9] for pixel in row}) > 5
    assert not os.listdir(tmp_path), "it left something in the learner's folder"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_keeps_to_its_form(path):
    text = path.read_text(encoding="utf-8")
    cells = re.split(r"(?m)^# %%", text)[1:]
    number = int(path.stem[:2])
    assert cells[0].startswith(f" [markdown]\n# # Chapter {number}: ") and "# After this chapter you can" in cells[0]
    assert "from wikigpt." in cells[1]
    prose = "".join(cell for cell in cells if cell.startswith(" [markdown]"))
    assert prose.count("**Predict**") >= 2
    assert cells[-1].startswith(" [markdown]\n# ## Exercises\n") and f"`wikigpt learn start {number}`" in cells[-1]
    for cell, after in pairwise(cells):  # what is asked for is shown next, and not before
        if "**Predict" in cell:
            assert not after.startswith(" [markdown]"), cell
    for name in re.findall(r"`((?:wikigpt|docs|lessons)/[\w/.-]+)`", prose):
        assert name.startswith("lessons/out") or (ROOT / name).exists(), name
    assert chapters.find_chapter(number).title in cells[0]


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_in_full(path, tmp_path_factory):
    """As a learner runs it, in the clone; what it makes stays in lessons/out/, as it does there."""
    environment = {key: value for key, value in os.environ.items() if key != "WIKIGPT_QUICK"}
    done = subprocess.run(
        [sys.executable, path], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert list((ROOT / "lessons" / "out").glob(f"{path.stem[:2]}-*.png"))


def test_the_learners_own_code_is_taken_where_it_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lesson, "out", lambda: tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert lesson.mine("tensors").softmax and "solutions" in capsys.readouterr().out
    (tmp_path / "my_gpt").mkdir()
    (tmp_path / "my_gpt" / "tensors.py").write_text("MINE = True\n")
    assert lesson.mine("tensors").softmax, "it has not passed its checks"
    done = chapters.Progress(5, 5)
    chapters.keep_progress(chapters.find_chapter(0), done)
    assert lesson.mine("tensors").MINE and "your own my_gpt/tensors.py" in capsys.readouterr().out
    (tmp_path / "my_gpt" / "gpt.py").write_text("raise AssertionError('its parts are not there')\n")
    chapters.keep_progress(chapters.find_chapter(5), done)
    assert lesson.mine("gpt").GPT, "gpt.py alone is not enough: block.py and attention.py are missing"
