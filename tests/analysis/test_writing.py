"""The moving picture is XML that any viewer takes, holds a frame for each step, and ends on the last."""

import xml.etree.ElementTree as ET

import pytest

from wikigpt.analysis.writing import svg, wrapped


def frames_of(text):
    root = ET.fromstring(text)
    return list(root.iter("{http://www.w3.org/2000/svg}g")), root


def test_a_run_becomes_a_picture(at_house, house):
    assert at_house("runs inspect --run r --writing") == 0
    text = (house / "models/r/writing.svg").read_text()
    groups, root = frames_of(text)
    steps = [line for line in (house / "models/r/samples.md").read_text().splitlines() if line.startswith("## Step")]
    assert len(groups) == len(steps) and "step 0," in "".join(groups[0].itertext())
    assert "# Queso de luna" in "".join(root.itertext()) and "loss " in "".join(groups[-1].itertext())


@pytest.mark.parametrize("text", ["noise \x1b\x00 <b>&\ufffe", "日本語" * 60, "שלום עולם " * 20, "", "w" * 400])
def test_any_text_is_drawn_inside_the_picture(text):
    made = svg("A & B", [(0, "x"), (10, text)], {0: 7.0, 10: 3.0}, 100)
    groups, root = frames_of(made)
    assert len(groups) == 2 and "step 10, 0.00 million tokens, loss 3.00" in "".join(groups[1].itertext())
    lines = list(groups[1].iter("{http://www.w3.org/2000/svg}text"))[1:]
    assert all(float(line.get("y")) < float(root.get("height")) - 20 for line in lines) and len(lines) <= 7
    assert all(line.get("direction") == "rtl" for line in lines) == text.startswith("ש") or not lines


def test_lines_are_no_wider_than_asked():
    assert list(wrapped("one two three four", 9)) == ["one two", "three", "four"]
    assert list(wrapped("日本語日本語", 6)) == ["日本語", "日本語"] and list(wrapped("abcdefgh", 3)) == [
        "abc",
        "def",
        "gh",
    ]
