"""The page shows what was found, in Chromium too; the terminal does in colours or lines; what is wrong gets one line."""

import json
import shutil

import pytest

from wikigpt.analysis.pages import Look, html, in_colours, in_lines
from wikigpt.analysis.surprise import Token

EVIL = "</script><script>document.title='caught'</script> & <b>fett</b> 日本"


def test_a_page_of_a_text(at_house, house, capsys, tmp_path):
    out = tmp_path / "look.html"
    assert at_house(["runs", "inspect", "--run", "r", "--input", EVIL, "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    page = out.read_text()
    assert record["page"] == str(out) and len(record["norms"]) == 4 and record["tokens"][0]["alternatives"]
    for part in ("Surprise", "Where the training text says the same", "Attention", "Logit lens", "Norms by layer"):
        assert f">{part}" in page
    assert "<script>document" not in page and "&lt;" in page and "http://" not in page


def test_no_token_ends_the_script():
    page = html(Look("r", "</script>", tokens=[Token(1, "</script>", 3.0, [("</script>", 0.5)])], words=["a"]))
    assert page.count("</script>") == 2  # those of the data and of the page's own


def test_an_article_and_parts_of_a_page(at_house, house, data, capsys):
    assert at_house("runs inspect --run m --show surprise norms") == 0
    said = capsys.readouterr()
    page = (house / "models/m/look.html").read_text()
    assert "never trained on (validation)" in page and "Logit lens" not in page
    assert "%" in said.out and f"page: {'models/m/look.html'}" in said.err
    assert at_house("runs inspect --run m --title train:5000") == 0
    page = (house / "models/m/look.html").read_text()
    assert "that it was trained on (train)" in page and "says the same" not in page  # it would find itself
    assert at_house("runs inspect --run m --title train:5000 --show passages") == 0
    assert "says the same" in (house / "models/m/look.html").read_text()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--input", ""], "The text is empty"),
        (["--input", "x", "--title", "y"], "--title and --input were given together"),
        (["--memorised", "--writing"], "--memorised and --writing were given together"),
        (["--memorised", "--input", "x"], "--memorised looks at no text of its own"),
        (["--memorised", "--num_samples", "0"], "num_samples is 0"),
        (["--title", "No hay tal cosa"], "has no article 'No hay tal cosa'"),
        (["--writing", "--title", "Nada"], "wrote nothing for 'Nada'. It wrote for: Eclipse solar"),
        (["--neighbours", ""], "--neighbours is empty"),
        (["--file", "nothing.txt"], "nothing.txt"),
        (["--learned_from", " "], "--learned_from is empty"),
        (["--title", ""], "--title is empty"),
        (["--show"], "--show says nothing"),
        (["--memorised", "--out", "x.html"], "--memorised writes no file"),
    ],
)
def test_a_mistake_gets_one_line(at_house, flags, says, capsys):
    assert at_house(["runs", "inspect", "--run", "r", *flags]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]


def test_colours_and_lines():
    tokens = [Token(1, "a", 0.5, [("a", 0.7)]), Token(2, "b\nc", 9.0, [("x", 0.1), ("\n", 0.01)])]
    parts = [Token(3, "", 5.0, []), Token(4, "日", 4.0, []), Token(5, "\x1b", 0.1, [])]
    colour, end = "\x1b[48;5;209;97m", "\x1b[0m"
    assert in_colours(tokens) == f"a{colour}b{end}\n{colour}c{end}"
    assert in_colours(parts) == f"{colour}日{end}▯"  # both parts of the character; nothing that a terminal would obey
    first, second = in_lines(tokens).splitlines()
    assert first.split() == ["0.50", "a", "a", "70%"] and second.split() == ["9.00", "b⏎c", "x", "10%", "⏎", "1%"]


def test_a_text_of_one_token_and_one_that_is_too_long(at_house, house, tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "look.html")
    for run in "rm":
        assert at_house(["runs", "inspect", "--run", run, "--input", "a", "--out", out, "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert len(record["tokens"]) == 1 and all(norm["gradient"] > 0 for norm in record["norms"])
        assert len(record["lens"]) == 3 and len(record["lens"][0]) == 2
    monkeypatch.setattr("wikigpt.verbs.inspect.MOST", 50)
    assert at_house(["runs", "inspect", "--run", "r", "--input", "uno dos tres " * 40, "--out", out, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) == 50
    assert "The first 50 of " in (tmp_path / "look.html").read_text()


def test_without_its_data_the_rest_is_shown_all_the_same(at_house, house, data, tmp_path, capsys):
    moved = data.path.with_name("elsewhere")
    shutil.move(data.path, moved)
    try:
        command = ["runs", "inspect", "--run", "r", "--input", "La Luna", "--out", str(tmp_path / "look.html")]
        assert at_house(command) == 0 and "without passages" in capsys.readouterr().err
        assert at_house([*command, "--show", "passages"]) == 2
    finally:
        shutil.move(moved, data.path)


@pytest.mark.slow
def test_the_page_in_chromium(at_house, house, tmp_path):
    from browser import page

    out = tmp_path / "look.html"
    assert at_house(["runs", "inspect", "--run", "m", "--input", EVIL, "--out", str(out)]) == 0
    with page() as tab:
        tab.goto(out.as_uri())
        assert tab.title() == "A text: m"
        tab.hover("#surprise span:nth-child(3)")
        assert " bits; expected: " in tab.inner_text("#tip")
        heads = tab.locator(".heads canvas")
        assert heads.count() == 8
        heads.nth(5).click()
        assert tab.inner_text("#chosen") == "block 1, head 1"
        tab.hover("#attention span:nth-child(4)")
        assert tab.eval_on_selector("#attention span:nth-child(2)", "span => span.style.background") != ""
        assert tab.eval_on_selector("#attention span:nth-child(6)", "span => span.style.background") == ""
        tab.keyboard.press("Tab")
        width = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width == 0
