"""A finished run and its export, for all that is measured with them."""

import pytest
import torch
from helpers import training_command, wikigpt

from wikigpt import tokenizer as tokenizers
from wikigpt.config import ModelConfig
from wikigpt.evaluate.language_model import of_run
from wikigpt.transformer import GPTModel


@pytest.fixture(scope="session")
def house(data, tmp_path_factory):
    """A folder with the run `r` (Spanish, own BPE, context 32) and its export."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert wikigpt(training_command("--run r --learning_rate 2e-2"), data.path.parent) == 0
        assert wikigpt("export --run r", data.path.parent) == 0
    return folder


@pytest.fixture
def at_house(house, data, monkeypatch):
    """Runs a command in the house; returns its exit code."""
    monkeypatch.chdir(house)
    return lambda command: wikigpt(command, data.path.parent)


@pytest.fixture
def tokenizer(data):
    return tokenizers.load(data.path / "tokenizer")


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    return GPTModel(ModelConfig(data.vocab_size, 24, 24, 2, 1, 0.1, True)).eval()


@pytest.fixture
def language_model(model, tokenizer, machine):
    return of_run("untrained", model, tokenizer, machine)
