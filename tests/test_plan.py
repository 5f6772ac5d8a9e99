"""What is foreseen is what happens: parameters, FLOPs and memory as PyTorch counts them itself, and its line trains that."""

import json
import shlex

import pytest
import torch
from helpers import wikigpt
from torch.utils.flop_counter import FlopCounterMode

from wikigpt.backend import training_net
from wikigpt.cards import CARDS, find_card
from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings, from_preset
from wikigpt.data.loader import Batch
from wikigpt.errors import ConfigError
from wikigpt.hardware import Machine
from wikigpt.kernels import Kernels
from wikigpt.optim import make_optimizer, training_step
from wikigpt.plan import (
    EPOCHS,
    best_depth,
    expected_bits_per_byte,
    flops_per_token,
    kept_per_token,
    memory,
    parameters_by_part,
    parts_that_fit,
    tokens_per_second,
)  # fmt: skip
from wikigpt.transformer import GPTModel, Plain

MODERN = {"arch": "qwen3", "qkv_bias": False, "n_heads": 4, "n_kv_heads": 2, "head_dim": 24, "ffn_dim": 200}
SHAPES = {
    "gpt2": {},
    "modern": MODERN,
    "untied": MODERN | {"tie_embeddings": False},
}


def shaped(name, **changes):
    fields = {"vocab_size": 640, "context_length": 64, "emb_dim": 128, "n_heads": 4, "n_layers": 3, "drop_rate": 0.0}
    return ModelConfig(**fields | {"qkv_bias": True} | SHAPES[name] | changes)


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_and_flops_are_those_that_pytorch_counts(name):
    config = shaped(name)
    model = GPTModel(config)
    named = dict(model.named_parameters())
    parts = parameters_by_part(config)
    assert sum(parts.values()) == config.n_parameters == sum(p.numel() for p in named.values())
    for part, words in {"attention": ".attn.", "feed-forward": ".ff.", "norms": "norm"}.items():
        own = {n: p for n, p in named.items() if words in n and not (part == "norms" and ".attn." in n)}
        assert parts[part] == sum(p.numel() for p in own.values()), part
    tokens = torch.randint(640, (2, 65))
    with FlopCounterMode(display=False) as counter:
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    assert counter.get_total_flops() == flops_per_token(config) * 2 * 64


@pytest.mark.parametrize("name", ["gpt2", "modern"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernels", [False, True])
def test_what_a_layer_keeps_is_what_autograd_saves(name, dtype, kernels):
    def kept(n_layers):
        model = GPTModel(shaped(name, n_layers=n_layers))
        model.use(Kernels(2) if kernels else Plain)
        weights, seen, alive = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}, []

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                seen[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)  # or its address is given to another
            return tensor

        inputs = torch.randint(640, (4, 64))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
            model.hidden(inputs)
        return sum(seen.values())

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")
    config = shaped(name)
    parts = parameters_by_part(shaped(name, n_layers=1))
    copies = 2 * (parts["attention"] + parts["feed-forward"]) if dtype == "bfloat16" else 0
    layer = kept(3) - kept(2) - copies
    assert layer / (4 * 64) == pytest.approx(kept_per_token(config, 2 if copies else 4, "cpu", kernels), rel=0.03)


@pytest.mark.parametrize(
    "model, setting, batch_size, accumulation, dtype, backend, recompute",
    [
        ("modern_tiny", "small_models", 8, 1, "bfloat16", "plain", False),
        ("modern_tiny", "small_models", 4, 2, "float32", "kernels", False),
        ("modern_small", "small_models", 1, 1, "bfloat16", "kernels", False),
        ("small", "fast", 8, 1, "float32", "plain", False),
        ("small", "fast", 4, 2, "bfloat16", "kernels", False),
        ("modern_tiny", "small_models", 8, 1, "bfloat16", "kernels", True),
    ],
)
def test_memory_is_what_pytorch_allocates(model, setting, batch_size, accumulation, dtype, backend, recompute):
    """Every allocation of two whole steps, from the model's first weight on, as the profiler sees them."""
    config = from_preset(ModelConfig, MODEL_CONFIGS, model, {})
    parts = {"batch_size": batch_size, "gradient_accumulation_steps": accumulation}
    training = from_preset(TrainingSettings, TRAINING_SETTINGS, setting, parts)
    machine = Machine("cpu", "test", dtype, "", 2, 2**34, 1e11, "measured", backend)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(profile_memory=True, activities=activities) as profiler:
        net = training_net(GPTModel(config), machine, recompute=recompute)
        optimizer = make_optimizer(net.model, training, dtype)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        for _ in range(2):
            tokens = torch.randint(config.vocab_size, (training.windows_per_step, config.context_length + 1))
            training_step(net, optimizer, scaler, Batch(tokens[:, :-1], tokens[:, 1:]), training, machine)
    events = (e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]")
    used = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        used += event.nbytes()
        most = max(most, used)
    foreseen = memory(config, training, dtype, "cpu", recompute=recompute, kernels=backend == "kernels")
    assert foreseen.total == pytest.approx(most, rel=0.15)


def test_parts_of_a_model_take_parts_of_the_memory():
    config = from_preset(ModelConfig, MODEL_CONFIGS, "modern_1b", {})
    training = from_preset(TrainingSettings, TRAINING_SETTINGS, "modern_1b", {"batch_size": 1})
    whole, parts = (memory(config, training, world_size=8, parallel=how) for how in ("ddp", "fsdp"))
    for state in ("weights", "optimizer"):
        assert getattr(parts, state) == pytest.approx(getattr(whole, state) / 8)
    assert parts.gradients == pytest.approx(whole.gradients / 16)  # whole ones are there twice
    assert parts.total < whole.total / 2
    small, large = find_card("rtx4060"), find_card("h100")
    assert parts_that_fit(config, training, small, 1, "bfloat16") is None
    assert parts_that_fit(config, training, small, 8, "bfloat16")[1] == "fsdp"
    assert parts_that_fit(config, training, large, 8, "bfloat16")[1:] == ("ddp", False)


def test_a_budget_buys_the_largest_model_that_it_trains_on_enough_text():
    card = find_card("RTX 4060")
    depth = best_depth(24, card, 1, 0.4, "bfloat16", 50257, 0)
    from wikigpt.config import modern

    for d, within in ((depth, True), (depth + 1, False)):
        model = ModelConfig(**modern(d)[0])
        hours = 20 * model.n_parameters / tokens_per_second(model, card, 1, 0.4) / 3600
        assert (hours <= 24) == within
    assert best_depth(24, card, 1, 0.4, "bfloat16", 50257, int(20e6)) < depth  # for lack of text
    assert best_depth(240, card, 1, 0.4, "bfloat16", 50257, 0) > depth
    with pytest.raises(ConfigError, match="Did you mean rtx4090"):
        find_card("RTX-4091")
    assert len({card.key for card in CARDS}) == len(CARDS)


def test_expected_bits_agree_with_a_model_that_others_measured():
    """Gao et al. 2020, table 4: 1.3 billion parameters, 40 GB of the Pile, 0.896 bits per byte of Wikipedia."""
    tokens = 40e9 / 4.214
    assert expected_bits_per_byte(int(1.3e9), tokens, tokens) == pytest.approx(0.896, rel=0.02)
    once, again = (expected_bits_per_byte(10**9, 4e9, unique) for unique in (4e9, 1e9))
    assert once < again < 1.02 * once  # four epochs are nearly as good as four times the text
    assert expected_bits_per_byte(10**6, 1e7, 1e7) is None


def test_the_plan_ends_with_the_line_that_trains_it(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert wikigpt("plan --gpu h100 --gpus 8 --model_config modern_1b --price 2.5", data.path.parent) == 0
    out = capsys.readouterr().out
    for figure in ("947,614,720", "8 x H100", "at an MFU of 40%", "20 per parameter", "cost", "bits per byte"):
        assert figure in out
    assert out.splitlines()[-1].startswith(
        "torchrun --standalone --nproc_per_node=8 -m wikigpt train --model_config modern_1b"
    )
    assert wikigpt("plan --gpu rtx4060 --hours 24", data.path.parent) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("wikigpt train --depth ")
    # With data: what it says is what train makes of its line.
    assert wikigpt("plan --gpu rtx4060 --data es --depth 2 --json", data.path.parent) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["data_tokens"] == data.training_tokens and plan["epochs"] == pytest.approx(EPOCHS)
    assert any("Muennighoff" in line and "prepare more languages" in line for line in plan["warnings"])
    words = shlex.split(plan["command"])
    assert words[:3] == ["wikigpt", "train", "--data"]
    few = ["--max_steps", "1", "--eval_tokens", "100", "--batch_size", "1"]
    assert wikigpt([*words[1:], "--run", "r", *few], data.path.parent) == 0
    run = json.loads((tmp_path / "models/r/run.json").read_text())
    assert run["model"] == plan["model"]


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--gpu rx7900", "There is no card 'rx7900'"),
        ("--gpus 0", "gpus is 0"),
        ("--gpus 12", "gpus is 12"),
        ("--gpus 8 --training_setting fast", "A step has 4 windows, which 8 GPUs cannot share out"),
        ("--hours -1", "hours is -1.0"),
        ("--mfu 40", "Give a share, up to 1"),
        ("--depth 3 --model_config tiny", "given together"),
        ("--gpu rtx4060 --model_config gpt2_xl", "Not even one window fits"),
        ("--model_config huge", "There is no preset 'huge'"),
        ("--data nowhere", "nowhere"),
    ],
)
def test_a_mistake_is_one_line(data, capsys, flags, said):
    assert wikigpt(f"plan {flags}", data.path.parent) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1
