"""The model is GPT-2 exactly, and each of its shortcuts (cache, chunked loss) equals the plain way."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from wikigpt import transformer
from wikigpt.config import MODEL_CONFIGS, ModelConfig
from wikigpt.export.gpt2_names import from_gpt2, to_gpt2
from wikigpt.export.huggingface import hub_config
from wikigpt.export.qwen3_names import from_qwen3, to_qwen3
from wikigpt.transformer import GPTModel, KVCache


@pytest.fixture(params=["gpt2", "qwen3"])
def nano(request, nano):
    """Each kind of model; the modern one with shared keys, heads of a size of their own, and rows that pad."""
    if request.param == "gpt2":
        return nano
    shape = {"arch": "qwen3", "qkv_bias": False, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "ffn_dim": 40}
    return replace(nano, **shape)


@pytest.fixture
def untied(nano):
    return replace(nano, tie_embeddings=nano.arch == "gpt2")


@pytest.fixture
def model(nano):
    torch.manual_seed(1)
    return jiggled(GPTModel(nano)).eval()


def jiggled(model):
    """Every weight random, biases and norms too: at their first values a forgotten bias would not show."""
    for name, parameter in model.named_parameters():
        strong = "pos" in name or "wpe" in name  # or greedy text would repeat one token
        scale = parameter.dim() == 1 and name.endswith(
            "weight"
        )  # of a norm: about 1, or activations stay where GELU is a line
        torch.nn.init.normal_(parameter, mean=1.0 if scale else 0.0, std=1.0 if strong else 0.2)
    return model


def ids(config, batch=3, time=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, time or config.context_length), generator=generator)


def theirs(config, weights=None):
    """transformers' model of the same shape, with our weights."""
    import transformers

    fields = hub_config(config, config.vocab_size - 1)
    kinds = {"gpt2": transformers.GPT2Config, "qwen3": transformers.Qwen3Config}
    known = {k: v for k, v in fields.items() if k not in ("model_type", "architectures", "rope_theta")}
    reference = getattr(transformers, fields["architectures"][0])(kinds[config.arch](**known)).eval()
    if weights is not None:
        there = (to_gpt2 if config.arch == "gpt2" else to_qwen3)(weights, config)
        missing, unexpected = reference.load_state_dict(there, strict=False)
        assert not unexpected and all(name.endswith(("attn.bias", "masked_bias")) for name in missing)
    return reference


def ours_of(reference, config):
    return (from_gpt2 if config.arch == "gpt2" else from_qwen3)(reference.state_dict(), config)


def test_our_weights_give_transformers_the_same_logits(untied):
    torch.manual_seed(1)
    model, inputs = jiggled(GPTModel(untied)).eval(), ids(untied)
    reference = theirs(untied, model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(reference(inputs).logits, model(inputs), atol=1e-4, rtol=0)


def test_transformers_weights_give_us_the_same_logits(untied):
    reference = jiggled(theirs(untied))
    ours = GPTModel(untied).eval()
    ours.load_state_dict(ours_of(reference, untied))
    inputs = ids(untied)
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), reference(inputs).logits, atol=1e-4, rtol=0)


def test_there_and_back_is_the_same(model, nano):
    back = GPTModel(nano)
    back.load_state_dict(ours_of(theirs(nano, model.state_dict()), nano))
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        rows = slice(nano.vocab_size) if name == "tok_emb.weight" else slice(None)
        assert torch.equal(back.state_dict()[name][rows], weight[rows])


@pytest.mark.parametrize("nano", ["gpt2"], indirect=True)
def test_a_model_without_qkv_bias_is_one_with_zeros(nano):
    config = replace(nano, qkv_bias=False)
    torch.manual_seed(2)
    ours = jiggled(GPTModel(config)).eval()
    with torch.no_grad():
        logits = theirs(config, ours.state_dict())(ids(config)).logits
        torch.testing.assert_close(logits, ours(ids(config)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("nano", ["qwen3"], indirect=True)
def test_what_pads_the_vocabulary_has_no_logit_no_loss_and_no_gradient(nano):
    torch.manual_seed(1)
    model = jiggled(GPTModel(nano))
    with torch.no_grad():
        model.tok_emb.weight[nano.vocab_size :] = 100.0  # would win everything
    assert len(model.tok_emb.weight) == 128 and model(ids(nano)).shape[-1] == nano.vocab_size == 97
    inputs, targets = ids(nano), ids(nano, seed=1)
    loss = model.loss(inputs, targets)
    torch.testing.assert_close(loss, F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()))
    loss.backward()
    assert not model.tok_emb.weight.grad[nano.vocab_size :].any()


def test_greedy_text_is_that_of_transformers_token_for_token(model, nano):
    from wikigpt.generate import Sampling, generate_ids

    reference = theirs(nano, model.state_dict())
    prompt = ids(nano, batch=1, time=4)
    expected = reference.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    ours = list(generate_ids(model, prompt[0].tolist(), -1, Sampling(max_gen=12, temperature=0)))
    assert ours == expected[0, 4:].tolist()
    assert len(set(ours)) > 2  # a model that says one thing for ever would prove little


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gpt2_original", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
    ],
)
def test_the_presets_are_gpt2s_sizes(name, parameters):
    config = ModelConfig(**MODEL_CONFIGS[name])
    with torch.device("meta"):
        model = GPTModel(config)
    assert sum(p.numel() for p in model.parameters()) == config.n_parameters == parameters


@pytest.mark.parametrize("nano", ["gpt2"], indirect=True)
def test_the_start_is_gpt2s(nano):
    torch.manual_seed(3)
    model = GPTModel(ModelConfig(**nano.preset() | {"emb_dim": 240, "n_layers": 8}))
    block = model.blocks[0]
    assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert block.attn.out_proj.weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)  # sqrt(2 * 8) = 4
    assert block.ff.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)
    assert not block.attn.qkv.bias.any() and (block.norm1.weight == 1).all()


def test_no_position_sees_what_comes_later(model, nano):
    inputs = ids(nano)
    changed = inputs.clone()
    changed[:, 9] = (changed[:, 9] + 1) % nano.vocab_size
    with torch.no_grad():
        before, after = model(inputs), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.isclose(before[:, 9:], after[:, 9:]).all(-1).any()


@pytest.mark.parametrize("steps", [[16], [1] * 16, [5, 1, 1, 6, 3], [1, 15]])
def test_the_cache_changes_nothing(model, nano, steps):
    inputs = ids(nano)
    cache = KVCache(nano, 3, "cpu", torch.float32)
    with torch.no_grad():
        pieces = [model(part, cache) for part in inputs.split(steps, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(inputs), atol=1e-5, rtol=1e-5)
    assert cache.length == 16


def test_plain_attention_is_the_fused_one_and_so_are_its_gradients():
    q, k, v = (torch.randn(2, 3, 20, 8, requires_grad=True) for _ in range(3))
    plain = transformer.plain_attention(q, k, v, 0.0)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(plain, fused)
    slope = torch.randn_like(plain)
    for ours, reference in zip(
        torch.autograd.grad(plain, (q, k, v), slope), torch.autograd.grad(fused, (q, k, v), slope), strict=True
    ):
        torch.testing.assert_close(ours, reference)


def test_the_model_is_the_same_with_the_fused_attention(model, nano, monkeypatch):
    inputs = ids(nano)
    with torch.no_grad():
        plain = model(inputs)
        monkeypatch.setattr(transformer.Plain, "PLAIN_UP_TO", 0)
        torch.testing.assert_close(model(inputs), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 700, 2**26])
def test_the_chunked_loss_is_cross_entropy_and_so_are_its_gradients(model, nano, chunk, monkeypatch):
    monkeypatch.setattr(transformer.ChunkedCrossEntropy, "CHUNK", chunk)
    inputs, targets = ids(nano), ids(nano, seed=1)

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    chunked = model.loss(inputs, targets)
    torch.testing.assert_close(chunked, plain)
    torch.testing.assert_close(model.loss(inputs, targets, reduction="sum"), plain * targets.numel())
    for ours, reference in zip(gradients(chunked * 3), gradients(plain * 3), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-4)


def test_no_gradient_is_computed_where_none_is_wanted(model, nano, monkeypatch):
    made = []
    monkeypatch.setattr(torch, "empty_like", lambda tensor: made.append(tensor))
    with torch.no_grad():
        quiet = model.loss(ids(nano), ids(nano, seed=1))
    assert not made
    monkeypatch.undo()
    torch.testing.assert_close(model.loss(ids(nano), ids(nano, seed=1)).detach(), quiet)


def test_in_bfloat16_the_chunked_loss_stays_close(model, nano):
    inputs, targets = ids(nano), ids(nano, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        plain = F.cross_entropy(model(inputs).flatten(0, 1).float(), targets.flatten())
        torch.testing.assert_close(model.loss(inputs, targets), plain, atol=0.01, rtol=0)


def test_any_object_with_the_attributes_will_do_and_torch_alone_is_imported(tmp_path):
    (tmp_path / "transformer.py").write_text(Path(transformer.__file__).read_text())
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import torch
from types import SimpleNamespace
before = set(sys.modules)
from transformer import GPTModel
C = SimpleNamespace(vocab_size=9, context_length=4, emb_dim=8, n_heads=2, n_layers=1, drop_rate=0.0, qkv_bias=True,
                    n_kv_heads=2, head_dim=4, ffn_dim=32, rope_theta=10.0, tie_embeddings=True)
for C.arch in ("gpt2", "qwen3"):
    assert GPTModel(C)(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 9)
new = {name.split(".")[0] for name in set(sys.modules) - before}
assert not new - set(sys.stdlib_module_names) - {"torch", "transformer"}, new
"""
    subprocess.run([sys.executable, "-I", "-c", code, str(tmp_path)], check=True)


def test_what_cannot_be_is_a_value_error(model, nano):
    for wrong, why in (({"arch": "gpt3"}, "none of gpt2, qwen3"), ({"n_heads": 7, "n_kv_heads": 2}, "shared out")):
        with pytest.raises(ValueError, match=why):
            GPTModel(SimpleNamespace(**asdict(nano) | wrong))
    with pytest.raises(ValueError, match="do not fit in a context of 16"):
        model(ids(nano, time=17))
