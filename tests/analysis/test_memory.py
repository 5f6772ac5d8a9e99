"""Where it learned this: a model that knows its text by heart is caught, and the article is named."""

import itertools
import json

import numpy as np
import pytest

from wikigpt import tokenizer as tokenizers
from wikigpt.analysis.memory import longest_of_text, memorised, passages_of, repeated_share
from wikigpt.config import ModelConfig
from wikigpt.data.lookup import look_up
from wikigpt.data.passages import Passages
from wikigpt.generate import Sampling
from wikigpt.transformer import GPTModel


@pytest.fixture(scope="module")
def tokenizer(data):
    return tokenizers.load(data.path / "tokenizer")


@pytest.fixture(scope="module")
def index(data):
    return [Passages(data)]


def test_a_phrase_leads_to_its_article(data, tokenizer, index):
    article = look_up(data, "train:5000")
    text = tokenizer.decode(article.ids[:-1])
    words = text.split("\n\n", 1)[1].split()
    phrase = " ".join(words[3:20])
    found = longest_of_text(phrase, index, tokenizer)
    assert found.text.strip() == phrase and found.title == article.row["title"] and found.url == article.row["url"]
    mixed = longest_of_text(f"zzz qqq {phrase} xyz www", index, tokenizer)
    assert mixed.text.strip().startswith(phrase[:-8]) and mixed.title == article.row["title"]
    ids = tokenizer.encode(text).tolist()
    (whole,) = passages_of(ids, index, tokenizer, 10)
    assert (whole.start, whole.tokens, whole.title) == (0, len(ids), article.row["title"])


def test_the_share_by_hand(data, tokenizer, index):
    stream = data.stream("train")
    ends = np.flatnonzero(stream.read(0, 20_000) == data.end_of_text)
    at = next(int(end) for end, after in itertools.pairwise(ends) if after - end > 130)
    copied = stream.read(at + 1, 60).tolist()
    short = stream.read(at + 1, 30).tolist()
    noise = np.random.default_rng(0).integers(300, 900, 40).tolist()
    share, tokens = repeated_share([copied + noise, short + noise], index)
    assert tokens == 170 and 60 / 170 <= share <= 64 / 170
    assert repeated_share([], index) == (0.0, 0)


class ByHeart(GPTModel):
    """Goes on with a training article, token by token."""

    ids: list[int]

    def next_logits(self, inputs_BT, cache=None):
        logits = super().next_logits(inputs_BT, cache)
        self.said = getattr(self, "said", -1) + 1
        logits[:] = 0.0
        logits[0, self.ids[self.said % len(self.ids)]] = 50.0
        return logits


def test_what_is_known_by_heart_counts_and_held_out_text_does_not(data, tokenizer, index):
    model = ByHeart(ModelConfig(data.vocab_size, 32, 16, 1, 1, 0.0, True)).eval()
    article = look_up(data, "train:5000")
    model.ids = article.ids.tolist()
    held_out = data.stream("test").read(0, 2000)
    length = min(len(model.ids), 200)
    found = memorised(model, tokenizer, index, held_out, 1, Sampling(max_gen=length, temperature=1.0))
    assert found.share == 1.0 and found.longest[0].title == article.row["title"]
    assert found.tokens <= length and found.held_out_share < 0.2 and found.held_out_tokens >= 90


def test_the_commands(at_house, house, data, tokenizer, capsys):
    text = tokenizer.decode(look_up(data, "train:5000").ids[:-1]).split("\n\n", 1)[1]
    phrase = " ".join(text.split()[3:14])
    command = ["runs", "inspect", "--run", "r", "--learned_from", phrase]
    assert at_house([*command, "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out.splitlines()[-1])["passage"]["title"]
        == look_up(data, "train:5000").row["title"]
    )
    assert at_house("runs inspect --run r --memorised --num_samples 2 --max_gen 20 --json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["tokens"] <= 40 and 0 <= record["share"] <= 1 and record["held_out_tokens"] > 0
    assert at_house(["runs", "inspect", "--run", "r", "--neighbours", " Luna", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["neighbours"]
