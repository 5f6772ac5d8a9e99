"""The page shows what was found, in Chromium too; the terminal does in colours or lines; what is wrong gets one line."""

import json

import pytest

from wikigpt.analysis.pages import in_colours, in_lines
from wikigpt.analysis.surprise import Token

EVIL = "</script><script>document.title='caught'</script> & <b>fett</b> 日本"


def test_a_page_of_a_text(at_house, house, capsys, tmp_path):
    out = tmp_path / "look.html"
    assert at_house(["runs", "inspect", "r", "--input", EVIL, "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    page = out.read_text()
    assert record["page"] == str(out) and len(record["norms"]) == 4 and record["tokens"][0]["alternatives"]
    for part in ("Surprise", "Where the training text says the same", "Attention", "Logit lens", "Norms by layer"):
        assert f">{part}" in page
    assert "<script>document" not in page and "&lt;" in page and "http://" not in page


def test_an_article_and_parts_of_a_page(at_house, house, data, capsys):
    assert at_house("runs inspect m --show surprise norms") == 0
    said = capsys.readouterr()
    page = (house / "models/m/look.html").read_text()
    assert "never trained on (validation)" in page and "Logit lens" not in page
    assert "%" in said.out and f"page: {'models/m/look.html'}" in said.err
    title = "Luna"
    assert at_house(["runs", "inspect", "m", "--title", title, "--show", "lens"]) in (0, 2)


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
    ],
)
def test_a_mistake_gets_one_line(at_house, flags, says, capsys):
    assert at_house(["runs", "inspect", "r", *flags]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]


def test_colours_and_lines():
    tokens = [Token(1, "a", 0.5, [("a", 0.7)]), Token(2, "\n", 9.0, [("x", 0.1), ("\n", 0.01)])]
    assert in_colours(tokens) == "a\x1b[48;5;209;97m\n\x1b[0m"
    first, second = in_lines(tokens).splitlines()
    assert first.split() == ["0.50", "a", "a", "70%"] and second.split() == ["9.00", "⏎", "x", "10%", "⏎", "1%"]


@pytest.mark.slow
def test_the_page_in_chromium(at_house, house, tmp_path):
    from browser import page

    out = tmp_path / "look.html"
    assert at_house(["runs", "inspect", "m", "--input", EVIL, "--out", str(out)]) == 0
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
