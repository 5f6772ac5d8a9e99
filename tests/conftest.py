"""What several tests share: real data, prepared once, and a model too small to wait for."""

import pytest
import torch
from helpers import LENGTH, quick, training_command, wikigpt

from wikigpt.config import ModelConfig
from wikigpt.data.prepare import PrepareSettings, prepare
from wikigpt.data.shards import DataFolder
from wikigpt.data.sources import sample
from wikigpt.hardware import Machine

quick()


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> DataFolder:
    """The Spanish sample with a BPE of 1,000, prepared once."""
    folder = tmp_path_factory.mktemp("dataset") / "es"
    return prepare(sample("es"), PrepareSettings("bpe", 1000, 0.03), folder, workers=2)


@pytest.fixture
def nano() -> ModelConfig:
    """A model that trains in milliseconds."""
    return ModelConfig(
        vocab_size=97, context_length=16, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.0, qkv_bias=True
    )


@pytest.fixture
def machine() -> Machine:
    """A CPU in float32, without timing it."""
    torch.set_num_threads(2)
    return Machine("cpu", "test", "float32", "for the test", 2, 2**34, 1e11, "measured")


@pytest.fixture
def train(data, tmp_path, monkeypatch):
    """Trains through the command line, in this process, in a folder of its own; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    return lambda flags, length=LENGTH: wikigpt(training_command(flags, length), data.path.parent)
