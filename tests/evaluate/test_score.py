"""The figures of training are right: counted by hand, token by token."""

import math

import pytest
import torch
import torch.nn.functional as F

from wikigpt import tokenizer as tokenizers
from wikigpt.config import ModelConfig
from wikigpt.evaluate import Score, evaluate_split
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
