"""The page about a run: one file, nothing from outside, everything that a run has to say."""

import re
from html.parser import HTMLParser

import pytest

from wikigpt.config import write_text
from wikigpt.metrics import MetricsLog, read_metrics, thinned
from wikigpt.report import write_report


class Page(HTMLParser):
    """Collects tags, what they refer to, and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src", "xlink:href")]

    def handle_data(self, data):
        self.text += data


def test_the_report_says_it_all_in_one_file(train, data, tmp_path):
    assert train("--run r") == 0
    run = tmp_path / "models" / "r"
    html = (run / "report.html").read_text()
    page = Page(html)
    (final,) = read_metrics(run, "final")
    for words in (
        "parameters", "bits per byte", f"{final['bits_per_byte']:.3f}", f"{final['bigram_bits_per_byte']:.3f}",
        "Step 0", "Step 12", "Eclipse solar", "CC BY-SA 4.0", "es.wikipedia.org", "learning_rate", "0.004", "emb_dim",
        "million tokens", "Kneser-Ney bigram",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.tags.count("svg") == 2 and "script" not in page.tags and "img" not in page.tags
    assert all(link.startswith("#") for link in page.links)  # inside an SVG
    assert not re.search(r"url\((?!#)|@import", html) and len(html) < 300_000
    assert 'name="viewport"' in html and "@media print" in html and "prefers-color-scheme: dark" in html


def test_what_a_model_writes_is_text_and_nothing_else(train, tmp_path):
    assert train("--run r") == 0
    run = tmp_path / "models" / "r"
    samples = run / "samples.md"
    samples.write_text(
        samples.read_text()
        + "\n## Step 13\n\n**<script>alert(1)</script>**\n\n> <img src=x onerror=alert(2)> & **bold**\n"
    )
    page = Page(write_report(run).read_text())
    assert "script" not in page.tags and "img" not in page.tags
    assert "<script>alert(1)</script>" in page.text and "<img src=x onerror=alert(2)> & **bold**" in page.text


def test_a_run_without_figures_has_a_report_too(train, tmp_path):
    assert train("--run r --max_steps 1") == 0
    run = tmp_path / "models" / "r"
    for name in ("metrics.jsonl", "samples.md"):
        (run / name).unlink()
    assert "finished" in write_report(run).read_text()


@pytest.mark.slow
def test_a_long_run_is_thinned_out(train, tmp_path):
    rows = [{"step": step} for step in range(100_001)]
    shown = thinned(rows)
    assert len(shown) <= 2001 and shown[0] == rows[0] and shown[-1] == rows[-1]
    assert thinned(rows[:5]) == rows[:5]
    assert train("--run r") == 0
    run = tmp_path / "models" / "r"
    log = MetricsLog(run)
    row = read_metrics(run, "train")[-1]
    for step in range(13, 20_000):
        log.write(**row | {"step": step, "tokens": step * 256})
    log.close()
    assert write_report(run).stat().st_size < 1_000_000
    write_text(run / "note", "x")
