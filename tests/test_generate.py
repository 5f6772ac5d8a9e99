"""Sampling does what its flags say, the cache changes nothing, and text comes in whole characters."""

import pytest
import torch

from wikigpt.config import ModelConfig
from wikigpt.data.article import prompt
from wikigpt.errors import ConfigError
from wikigpt.generate import (
    Sampling,
    draw,
    generate_ids,
    generate_text,
    keep_top_k,
    keep_top_p,
    next_token,
    prompt_ids,
    window_start,
)
from wikigpt.tokenizer import gpt2, train_bpe
from wikigpt.transformer import GPTModel

LOGITS = torch.tensor([0.1, 0.5, 0.3, 0.06, 0.04]).log()


@pytest.fixture
def model(nano):
    torch.manual_seed(5)
    model = GPTModel(nano).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("temperature", [0, 0.8, 1.5])
@pytest.mark.parametrize("length", [1, 7, 16, 17, 100])
def test_cached_and_uncached_are_the_same_far_beyond_the_context(model, temperature, length):
    prompt = torch.randint(97, (length,), generator=torch.Generator().manual_seed(1)).tolist()
    sampling = Sampling(max_gen=60, temperature=temperature, top_k=20, seed=3)
    cached = list(generate_ids(model, prompt, -1, sampling))
    assert cached == list(generate_ids(model, prompt, -1, sampling, use_cache=False))
    assert len(cached) == 60 and len(set(cached)) > 3


def test_the_window_always_fits_and_keeps_at_least_half():
    for context in (1, 2, 3, 16, 17):
        for length in range(1, 100):
            start = window_start(length, context)
            assert 0 < length - start <= context
            assert start == 0 or length - start > context // 2 - 1


def test_temperature_zero_is_greedy():
    assert {next_token(LOGITS, Sampling(temperature=0, seed=s), torch.Generator()) for s in range(5)} == {1}


def test_a_seed_is_a_text_and_another_is_another(model):
    def text(seed):
        return list(generate_ids(model, [1, 2], -1, Sampling(max_gen=30, temperature=1.0, seed=seed)))

    assert text(1) == text(1) != text(2)


def test_draws_follow_the_probabilities():
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.tensor([draw(LOGITS, generator) for _ in range(4000)]), minlength=5) / 4000
    torch.testing.assert_close(counts, LOGITS.exp(), atol=0.03, rtol=0)


def test_top_k_keeps_the_k_likeliest():
    assert keep_top_k(LOGITS, 2).isfinite().tolist() == [False, True, True, False, False]
    assert keep_top_k(LOGITS, 99).isfinite().all()


@pytest.mark.parametrize(
    ("p", "kept"), [(0.4, [1]), (0.5, [1]), (0.6, [1, 2]), (0.85, [0, 1, 2]), (1.0, [0, 1, 2, 3, 4])]
)
def test_top_p_keeps_the_likeliest_that_hold_p(p, kept):
    logits = LOGITS - 0.001 * torch.arange(5)  # no sum exactly on the edge
    assert keep_top_p(logits, p).isfinite().nonzero().flatten().tolist() == kept


def test_it_stops_at_end_of_text_and_does_not_hand_it_out(model):
    ids = list(generate_ids(model, [1, 2], -1, Sampling(max_gen=40, temperature=0)))
    end = ids[7]
    assert list(generate_ids(model, [1, 2], end, Sampling(max_gen=40, temperature=0))) == ids[: ids.index(end)]


class Script(torch.nn.Module):
    """A model that says a fixed row of tokens, whatever it reads."""

    def __init__(self, ids, vocab_size):
        super().__init__()
        self.config = ModelConfig(vocab_size, 64, 8, 2, 1, 0.0, True)
        self.tok_emb = torch.nn.Embedding(vocab_size, 8)
        self.rest = list(ids)

    def next_logits(self, inputs_BT, cache=None):
        return torch.nn.functional.one_hot(torch.tensor([self.rest.pop(0)]), self.config.vocab_size).float()


@pytest.mark.parametrize("text", ["naïve 👩‍👩‍👧‍👦 हिन्दी 維基", "日本語"])
def test_streamed_text_never_breaks_a_character(text):
    tokenizer = train_bpe(["a"], 257)  # every byte a token of its own: the hardest case
    ids = [*tokenizer.encode(text).tolist(), tokenizer.end_of_text]
    pieces = list(generate_text(Script(ids, 257), tokenizer, "a", Sampling(temperature=0)))
    assert "".join(pieces) == text and "\ufffd" not in "".join(pieces)
    assert len(pieces) == len(text)


def test_a_character_cut_off_by_max_gen_shows_as_one_replacement():
    tokenizer = train_bpe(["a"], 257)
    ids = tokenizer.encode("é維").tolist()
    pieces = list(generate_text(Script(ids, 257), tokenizer, "a", Sampling(max_gen=4, temperature=0)))
    assert "".join(pieces) == "é\ufffd"


@pytest.mark.parametrize(
    "tokenizer", [gpt2(), train_bpe(["# Moon\n\nThe Moon is round. " * 9], 300)], ids=["gpt2", "bpe"]
)
def test_a_title_is_asked_for_as_articles_begin(tokenizer):
    ids = prompt_ids(tokenizer, prompt("Moon"))
    assert tokenizer.encode(prompt("Moon") + "The Moon is round.").tolist()[: len(ids)] == ids
    assert tokenizer.decode(ids) == "# Moon\n\n"


def test_an_empty_prompt_begins_a_document():
    ids = [*gpt2().encode("Hello").tolist(), gpt2().end_of_text]
    assert "".join(generate_text(Script(ids, 50257), gpt2(), "", Sampling(temperature=0))) == "Hello"


@pytest.mark.parametrize(
    "wrong", [{"temperature": -0.1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_gen": -1}]
)
def test_a_wrong_flag_is_answered(wrong):
    with pytest.raises(ConfigError, match="Give"):
        Sampling(**wrong)
