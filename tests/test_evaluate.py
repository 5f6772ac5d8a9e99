"""The figures are right: counted by hand, and by a bigram that is slow and plain."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wikigpt import tokenizer as tokenizers
from wikigpt.config import ModelConfig
from wikigpt.evaluate import Score, bigram_score, evaluate_split
from wikigpt.transformer import GPTModel


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    return GPTModel(ModelConfig(data.vocab_size, 64, 24, 2, 1, 0.1, True))


@pytest.fixture
def token_bytes(data):
    return tokenizers.load(data.path / "tokenizer").token_bytes


def test_bits_per_byte_by_hand():
    score = Score(nats=math.log(2) * 30, tokens=10, bytes=20)
    assert score.bits_per_byte == pytest.approx(1.5)
    assert score.perplexity == pytest.approx(8.0)


def test_a_score_is_the_plain_cross_entropy_of_every_token(model, data, token_bytes, machine):
    tokens = data.stream("validation").read(0, 1000)
    ids = torch.tensor([data.end_of_text, *tokens.tolist()])
    nats = 0.0
    model.eval()
    with torch.no_grad():
        for start in range(0, 1000, 64):
            row = ids[start : min(start + 65, 1001)]
            nats += F.cross_entropy(model(row[None, :-1])[0], row[1:], reduction="sum").item()
    model.train()
    score = evaluate_split(model, data, "validation", token_bytes, machine, max_tokens=1000)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert (score.tokens, score.bytes) == (
        1000,
        len(tokenizers.load(data.path / "tokenizer").decode_bytes(tokens[tokens != data.end_of_text])),
    )


def test_all_of_a_split_is_all_of_its_text(model, data, token_bytes, machine):
    score = evaluate_split(model, data, "test", token_bytes, machine)
    counts = data.manifest["splits"]["test"]
    assert (score.tokens, score.bytes) == (counts["tokens"], counts["bytes"])


def test_evaluating_leaves_model_and_randomness_alone(model, data, token_bytes, machine):
    model.train()
    state = torch.get_rng_state()
    evaluate_split(model, data, "validation", token_bytes, machine, 500)
    assert model.training and torch.equal(state, torch.get_rng_state())


def plain_bigram(training, scored, V):
    """Interpolated Kneser-Ney, straight from the formula, one word at a time."""
    pairs = Counter(pairwise(training))
    before, after, total = Counter(), Counter(), Counter()
    for (v, w), count in pairs.items():
        before[w] += 1
        after[v] += 1
        total[v] += count

    def discount(counts):
        once, twice = sum(c == 1 for c in counts), sum(c == 2 for c in counts)
        return once / (once + 2 * twice)

    D, D1 = discount(pairs.values()), discount(before.values())

    def probability(v, w):
        lower = max(before[w] - D1, 0) / len(pairs) + D1 * len(before) / len(pairs) / V
        return lower if not total[v] else max(pairs[v, w] - D, 0) / total[v] + D * after[v] / total[v] * lower

    return -sum(math.log(probability(v, w)) for v, w in pairwise(scored)), probability


def test_the_bigram_is_the_formula(data, token_bytes):
    training = [data.end_of_text, *data.stream("train").read(0, 10**9).tolist()]
    scored = [data.end_of_text, *data.stream("validation").read(0, 3000).tolist()]
    nats, probability = plain_bigram(training, scored, data.vocab_size)
    assert bigram_score(data, "validation", token_bytes, 3000).nats == pytest.approx(nats, rel=1e-9)
    for v in (data.end_of_text, 32, 500):
        assert sum(probability(v, w) for w in range(data.vocab_size)) == pytest.approx(1.0)


def test_the_bigram_beats_knowing_nothing(data, token_bytes):
    score = bigram_score(data, "test", token_bytes)
    assert score.tokens == data.manifest["splits"]["test"]["tokens"]
    assert score.loss < 0.8 * np.log(data.vocab_size)
