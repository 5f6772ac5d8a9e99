"""Counting models are their formula: beside one that is slow and plain."""

import math
from collections import Counter

import numpy as np
import pytest

from wikigpt import tokenizer as tokenizers
from wikigpt.evaluate import bigram_score
from wikigpt.evaluate.counting import KneserNey

END = 0


def plain_kneser_ney(streams, V, order, modified):
    """Interpolated Kneser-Ney straight from the formula, one row at a time. A document begins behind an END and ends with
    one."""
    seen = [Counter() for _ in range(order + 1)]  # of each length, rows as they stand
    for stream in streams:
        document = [END]
        for token in stream:
            document.append(token)
            for length in range(1, min(order, len(document)) + 1):
                if length > 1 or len(document) > 1:
                    seen[length][tuple(document[-length:])] += 1
            if token == END:
                document = [END]
    counts = [Counter() for _ in range(order + 1)]
    counts[order] = seen[order]
    for length in range(1, order):
        for row in seen[length + 1]:
            counts[length][row[1:]] += 1
        if length > 1:  # nothing stands before a document
            counts[length] |= Counter({row: n for row, n in seen[length].items() if row[0] == END})

    def discounts(found):
        n = [sum(c == times for c in found.values()) for times in (1, 2, 3, 4)]
        y = n[0] / (n[0] + 2 * n[1]) if n[0] and n[1] else 0.5
        if not (modified and all(n)):
            return [0, y, y, y]
        return [0, 1 - 2 * y * n[1] / n[0], 2 - 3 * y * n[2] / n[1], 3 - 4 * y * n[3] / n[2]]

    D = [None, *(discounts(found) for found in counts[1:])]

    def probability(history, w):
        length = len(history) + 1
        rows = {row: n for row, n in counts[length].items() if row[:-1] == history}
        lower = 1 / V if length == 1 else probability(history[1:], w)
        if not rows:
            return lower
        total, freed = sum(rows.values()), sum(D[length][min(n, 3)] for n in rows.values())
        own = rows.get((*history, w), 0)
        return max(own - D[length][min(own, 3)], 0) / total + freed / total * lower

    return probability


@pytest.fixture(scope="module")
def streams():
    """Two streams of short documents in which rows come again."""
    random = np.random.default_rng(1)

    def stream(documents):
        made = []
        for _ in range(documents):
            made += [*np.minimum(random.geometric(0.3, random.integers(0, 9)), 7), END]
        return np.array(made)

    return [stream(90), stream(60)]


@pytest.mark.parametrize(("order", "modified"), [(1, False), (2, False), (3, True), (5, True)])
def test_it_is_the_formula(streams, order, modified):
    V = 9  # the last is never seen
    model, probability = KneserNey(streams, END, V, order, modified), plain_kneser_ney(streams, V, order, modified)
    scored = np.array([1, 2, 2, 8, 1, 3, 7, END, 1, 1, END, END, 5, 2])
    history, expected = [END], []
    for token in scored.tolist():
        reach = history[len(history) - min(order - 1, len(history)) :]
        expected.append(-math.log(probability(tuple(reach), token)))
        history = [END] if token == END else [*history, token]
    assert model.nats(scored) == pytest.approx(expected, rel=1e-9)
    for before in ([], [1], [1, 2], [2, 2, 8, 1], [7, 7, 7]):
        mass = sum(math.exp(-model.nats(np.array([*before, w]))[-1]) for w in range(V))
        assert mass == pytest.approx(1.0)


def test_unusual_counts_leave_no_probability_below_nothing():
    """Counts of counts for which the three discounts would be more than what was seen: KenLM refuses them."""
    often = [token for token in range(1, 9) for _ in range(4 if token > 3 else token)]
    tokens = np.array([*often, *[9] * 50, END])
    model = KneserNey([tokens], END, 12, 1, modified=True)
    costs = model.nats(np.arange(12))
    assert np.isfinite(costs).all() and np.exp(-costs).sum() == pytest.approx(1.0)


def test_the_bigram_of_a_folder(data):
    token_bytes = tokenizers.load(data.path / "tokenizer").token_bytes
    score = bigram_score(data, "test", token_bytes)
    assert score.tokens == data.manifest["splits"]["test"]["tokens"]
    assert score.bytes == data.manifest["splits"]["test"]["bytes"]
    assert score.loss < 0.8 * np.log(data.vocab_size)
    stream = data.stream("train")
    model = KneserNey([stream.read(0, len(stream))], data.end_of_text, data.vocab_size, 2)
    test = data.stream("test")
    assert score.nats == pytest.approx(model.nats(test.read(0, len(test))).sum())
