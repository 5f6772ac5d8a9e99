"""Compiled blocks, on a CPU here as on a card: the same model, one graph for all blocks, none for other shapes."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from wikigpt.backend import as_written, use_backend
from wikigpt.config import ModelConfig
from wikigpt.generate import Sampling, generate_ids
from wikigpt.hardware import Machine
from wikigpt.metrics import read_metrics
from wikigpt.transformer import GPTModel

possible = any(map(shutil.which, ("g++", "clang++", "c++")))
pytestmark = pytest.mark.skipif(not possible, reason="compiling for a CPU takes a C++ compiler")

COMPILED = Machine("cpu", "test", "float32", "for the test", 2, 2**34, 1e11, "measured", "compiled")
GPT2 = ModelConfig(103, 32, 32, 2, 12, 0.0, True)
MODERN = ModelConfig(103, 32, 32, 2, 12, 0.0, False, arch="qwen3", n_kv_heads=1, tie_embeddings=False)


@pytest.mark.parametrize("config", [pytest.param(GPT2, marks=pytest.mark.slow), MODERN], ids=["gpt2", "qwen3"])
def test_compiled_blocks_are_the_same_model_in_two_graphs(config):
    torch.manual_seed(0)
    torch.compiler.reset()
    counters.clear()
    model, tokens = GPTModel(config), torch.randint(103, (3, 33))

    def gradients():
        model.zero_grad()
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters())]

    names = list(model.state_dict())
    plain = gradients()
    use_backend(model, COMPILED)
    torch.testing.assert_close(gradients(), plain, atol=1e-6, rtol=1e-4)
    with as_written(COMPILED):
        assert len(list(generate_ids(model.eval(), [1, 2, 3], -1, Sampling(max_gen=9)))) == 9
        with torch.inference_mode():
            model.loss(tokens[:2, :20], tokens[:2, 1:21])
    model.train()
    torch.testing.assert_close(gradients(), plain, atol=1e-6, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == 2  # a block and the loss
    assert list(model.state_dict()) == names


@pytest.mark.slow
def test_a_compiled_run_is_the_plain_one(train, tmp_path):
    length = "--batch_size 4 --max_steps 8 --eval_every 4 --eval_tokens 500 --drop_rate 0"
    losses = []
    for backend in ("plain", "compiled"):
        assert train(f"--run {backend} --backend {backend}", length) == 0
        losses.append([row["loss"] for row in read_metrics(tmp_path / "models" / backend, "train")])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
