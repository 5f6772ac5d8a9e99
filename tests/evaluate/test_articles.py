"""Every article is scored as if it stood alone: beside a model asked for one token at a time."""

import csv
import json

import numpy as np
import pytest
import scipy.stats
import torch

from wikigpt.evaluate.articles import ArticleScore, count_words, interval, read_texts, score_articles, summary
from wikigpt.evaluate.language_model import of_run, of_transformers, predict, windows
from wikigpt.generate import load_model
from wikigpt.runs import read_run


@pytest.mark.parametrize(
    ("tokens", "context", "stride"), [(0, 4, 2), (3, 4, 2), (4, 4, 4), (50, 8, 3), (17, 8, 1), (9, 8, 8)]
)
def test_windows_predict_each_token_once_and_show_it_enough(tokens, context, stride):
    seen = []
    for start, first, end in windows(tokens, context, stride):
        assert end - start <= context and start <= first
        seen += range(first, end)
        assert start == 0 or first - start >= context - stride
    assert seen == list(range(tokens))


def one_token_at_a_time(model, row, context, stride):
    """Each token from a forward pass of its own, over just what its window shows before it."""
    nats, greedy = [], []
    for start, first, end in windows(len(row) - 1, context, stride):
        for place in range(first, end):
            with torch.no_grad():
                logits = model(torch.tensor([row[start : place + 1]]))[0, -1]
            nats.append(-torch.log_softmax(logits, -1)[row[place + 1]].item())
            greedy.append(logits.argmax().item() == row[place + 1])
    return nats, greedy


@pytest.mark.parametrize(("context", "stride"), [(24, 12), (24, 24), (10, 3)])
def test_what_tokens_cost_is_what_they_cost_one_at_a_time(language_model, model, context, stride):
    random = np.random.default_rng(0)
    rows = [random.integers(0, 900, length).tolist() for length in (60, 2, 1, 24, 25, 7)]
    for row, found in zip(rows, predict(language_model, rows, context, stride), strict=True):
        nats, greedy = one_token_at_a_time(model, row, context, stride)
        assert found.nats == pytest.approx(nats, abs=1e-4) and found.greedy.tolist() == greedy
    last = [5, 1, 0, 20, 3, 6]
    for row, count, found in zip(rows, last, predict(language_model, rows, context, stride, last), strict=True):
        nats, _ = one_token_at_a_time(model, row, context, stride)
        assert found.nats == pytest.approx(nats[len(nats) - count :], abs=1e-4)


def test_a_split_is_all_of_its_articles_whatever_the_order(data, tokenizer, language_model):
    texts = list(read_texts(data, "validation", tokenizer))
    counts = data.manifest["splits"]["validation"]
    scores = score_articles(language_model, texts, tokenizer.sha256, 24, 12)
    assert len(scores) == counts["articles"]
    assert sum(score.tokens for score in scores) == counts["tokens"]
    assert sum(score.bytes for score in scores) == counts["bytes"]
    again = score_articles(language_model, texts[::-1][:40], tokenizer.sha256, 24, 12)
    assert [s.nats for s in again] == pytest.approx([s.nats for s in scores[::-1][:40]], rel=1e-5)
    # From the text alone, as a model with another tokenizer would read it.
    encoded = score_articles(language_model, texts[:20], "another", 24, 12)
    assert [s.nats for s in encoded] == pytest.approx([s.nats for s in scores[:20]], rel=1e-5)
    assert texts[0].text.startswith(f"# {scores[0].title}\n\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [("one two  three\n\nfour", 4), ("東京は日本の首都である。", None), ("กรุงเทพ", None), ("", 0), ("पेरिस है", 2)],
)
def test_words_are_counted_where_they_are_set_apart(text, words):
    assert count_words(text) == words


def test_the_interval_is_the_percentile_bootstrap():
    random = np.random.default_rng(3)
    bottoms = random.integers(100, 5000, 80).astype(float)
    tops = bottoms * random.normal(1.5, 0.3, 80)
    low, high = interval(tops.tolist(), bottoms.tolist())
    theirs = scipy.stats.bootstrap(
        (tops, bottoms), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, vectorized=True,
        n_resamples=9999, method="percentile", rng=random,
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx(tuple(theirs), abs=0.01)
    assert low < tops.sum() / bottoms.sum() < high
    assert interval([1.0], [2.0]) is None and interval([2.0, 4.0], [1.0, 2.0]) == (2.0, 2.0)


def article(title, nats, size, words=10, trained_on=False):
    return ArticleScore(title, "", "", "es", 10, size, words, nats, trained_on)


def test_the_summary_of_three_articles_by_hand():
    bit = np.log(2)
    found = summary([article("a", 600 * bit, 300), article("b", 300 * bit, 300), article("short", 90 * bit, 10)])
    assert found["bits_per_byte"] == pytest.approx(990 / 610) and found["articles"] == 3
    assert found["loss"] == pytest.approx(990 * bit / 30) and found["word_perplexity"] == pytest.approx(2 ** (990 / 30))
    assert [row["title"] for row in found["best"]] == ["b", "a"] and found["worst"][0]["title"] == "a"
    assert summary([article("は", 1.0, 30, None)])["word_perplexity"] is None


def test_evaluate_writes_what_it_says(at_house, house, data, capsys):
    assert at_house("evaluate --run r --split both --context 16 --stride 4 --json") == 0
    found = json.loads(capsys.readouterr().out)
    folder = house / "models/r/evaluation/step_00000012"
    kept = json.loads((folder / "test.json").read_text())
    assert kept["bits_per_byte"] == found["test"]["bits_per_byte"] and (kept["context"], kept["stride"]) == (16, 4)
    rows = list(csv.DictReader((folder / "test.tsv").read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    assert len(rows) == data.manifest["splits"]["test"]["articles"] and rows[0]["title"]
    total = sum(float(row["nats"]) for row in rows) / sum(int(row["bytes"]) for row in rows) / np.log(2)
    assert total == pytest.approx(kept["bits_per_byte"], abs=1e-4)
    low, high = kept["bits_per_byte_interval"]
    assert low < kept["bits_per_byte"] < high
    assert "How good it is" in (house / "models/r/report.html").read_text()


def test_the_exported_model_costs_the_same_in_transformers(house, data, tokenizer, machine):
    theirs = of_transformers(str(house / "exports/r"), machine)
    assert (theirs.context_length, theirs.start, theirs.end) == (32, data.end_of_text, data.end_of_text)
    texts = list(read_texts(data, "test", tokenizer))[:12]
    ours = of_run("r", *load_model(read_run(house / "models/r"), "cpu"), machine)
    pairs = [score_articles(m, texts, tokenizer.sha256, 32, 16) for m in (ours, theirs)]
    assert [a.nats for a in pairs[0]] == pytest.approx([a.nats for a in pairs[1]], rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--context 33", "r has 1 to 32"),
        ("--context 8 --stride 9", "Give 1 to the context, 8"),
        ("--hf not/a/folder", "There is no folder not/a/folder"),
        ("--tasks lamb", "There is no task 'lamb'"),
        ("--tasks lambada=nofile.jsonl", "There is no file nofile.jsonl"),
        ("--tasks cloze --ladder", "Give one of them"),
        ("--tasks cloze --limit 0", "limit is 0"),
        ("--limit 5", "--limit is for benchmarks"),
        ("--tasks cloze cloze", "cloze was named twice"),
        ("--hf exports/r --context 33", "exports/r has 1 to 32"),
        ("--data other", "is not a prepared data folder"),
    ],
)
def test_a_mistake_gets_one_line(at_house, flags, says, capsys):
    assert at_house(f"evaluate --run r {flags}") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert says in said[-1]
