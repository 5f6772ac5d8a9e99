"""Each kernel in C is what Plain has in PyTorch, there and back; where there is no compiler, all goes on without."""

import platform
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from helpers import state

from wikigpt import kernels
from wikigpt.backend import choose_backend
from wikigpt.config import ModelConfig, RunConfig
from wikigpt.kernels import Kernels
from wikigpt.metrics import read_metrics
from wikigpt.transformer import GPTModel, Plain, rotations

possible = platform.system() == "Linux" and any(map(shutil.which, ("cc", "gcc", "clang")))
pytestmark = pytest.mark.skipif(not possible, reason="kernels are for Linux with a C compiler")

DTYPES = (torch.float32, torch.bfloat16)
GPT2 = ModelConfig(1003, 300, 96, 4, 2, 0.0, True)
MODERN = ModelConfig(1003, 300, 96, 4, 2, 0.0, False, arch="qwen3", n_kv_heads=2, head_dim=32, tie_embeddings=False)


def random(*shape, dtype=torch.float32, seed=0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2).to(dtype)


def there_and_back(function, given, dtype):
    """What a function makes of tensors, and the gradients of all of them; in float32, whatever it is calculated in."""
    given = [x.detach().requires_grad_() for x in given]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = function(*given)
    y.backward(random(*y.shape, dtype=y.dtype, seed=9))
    return [x.float() for x in (y, *(x.grad for x in given))]


def compare(name, given, dtype, *more):
    """A kernel against Plain. In float32 they are equal but for rounding; in bfloat16 both are as far from float32."""
    exact = there_and_back(lambda *x: getattr(Plain, name)(*x, *more), [x.float() for x in given], torch.float32)
    plain = there_and_back(lambda *x: getattr(Plain, name)(*x, *more), given, dtype)
    ours = there_and_back(lambda *x: getattr(Kernels(2), name)(*x, *more), given, dtype)
    for one, other, right in zip(ours, plain, exact, strict=True):
        allowed = 1e-5 if dtype == torch.float32 else 1.3 * ((other - right).norm() / right.norm()).item() + 2e-3
        assert ((one - right).norm() / right.norm()).item() < allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 5, 96), (2, 7, 33)])
def test_norms(shape, dtype):
    D = shape[-1]
    x, weight, bias = random(*shape), random(D, seed=1), random(D, seed=2)
    compare("layer_norm", (x + 3, weight, bias), dtype, 1e-5)
    compare("rms_norm", (x, weight), dtype, 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 9, 3, 32), (3, 4, 2, 6)])
def test_heads_brought_to_one_length_and_turned(shape, dtype):
    rotation = rotations(torch.arange(shape[1]), MODERN)
    rotation = torch.randn(2, shape[1], shape[3] // 2).repeat(1, 1, 2) if shape[3] != 32 else rotation
    compare("turn", (random(*shape, dtype=dtype), random(shape[3], seed=1)), dtype, rotation, 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 31, 1024, 5000])
def test_bends(n, dtype):
    x = random(n, dtype=dtype) * 3
    compare("gelu", (x,), dtype)
    compare("swiglu", (x, random(n, dtype=dtype, seed=1)), dtype)


def test_bends_far_out_are_what_they_should_be():
    x = torch.tensor([-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4])
    for name, given in (("gelu", (x,)), ("swiglu", (x, torch.ones(7)))):
        ours, plain = (there_and_back(getattr(ops, name), given, torch.float32) for ops in (Kernels(1), Plain))
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("T", [2, 16, 33])
def test_attention(T, heads, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 16)  # one block, or several of which the last is cut
    H, G = heads
    q, k, v = (random(3, n, T, 8, dtype=dtype, seed=n) for n in (H, G, G))
    compare("attention", (q, k, v), dtype)
    # As it comes from a projection, positions before heads.
    compare("attention", [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(dtype):
    logits, targets = random(11, 128, dtype=dtype) * 5, torch.randint(97, (11,))
    logits[:, 97:] = 50.0  # what only pads
    ours, plain, kept = logits.clone(), logits.clone(), logits.clone()
    loss = Kernels(2).cross_entropy(ours, targets, 97, True)
    torch.testing.assert_close(loss, Plain.cross_entropy(plain, targets, 97, True))
    torch.testing.assert_close(ours, plain)
    assert not ours[:, 97:].any()
    torch.testing.assert_close(Kernels(2).cross_entropy(kept, targets, 97, False), loss)
    assert torch.equal(kept, logits)


def test_a_loss_that_is_no_number_stays_none():
    logits = torch.zeros(2, 64)
    logits[1, 5] = float("nan")
    assert Kernels(2).cross_entropy(logits, torch.tensor([1, 2]), 64, True).isnan()
    for no_token in (-1, 60, 10**9):  # and nothing is written anywhere
        assert Kernels(2).cross_entropy(torch.zeros(2, 64), torch.tensor([1, no_token]), 60, True).isnan()


def test_a_model_whose_padding_was_cut_off_has_the_same_loss():
    model, tokens = GPTModel(MODERN), torch.randint(1000, (2, 33))
    with torch.no_grad():
        model.out_head.weight.data = model.out_head.weight.data[:1000]
        logits = model.hidden(tokens[:, :-1]) @ model.out_head.weight.T
        right = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        for ops in (Plain, Kernels(2)):
            model.use(ops)
            torch.testing.assert_close(model.loss(tokens[:, :-1], tokens[:, 1:]), right)


def gradients(model, ops, inputs, targets, dtype):
    model.use(ops)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model.loss(inputs, targets)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("config", [GPT2, MODERN], ids=["gpt2", "qwen3"])
def test_a_model_has_the_same_loss_and_gradients(config):
    torch.manual_seed(0)
    model = GPTModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.3 if parameter.dim() == 1 else 0.08)
    tokens = torch.randint(1003, (2, 301))
    given = (tokens[:, :-1], tokens[:, 1:])
    loss, plain = gradients(model, Plain, *given, torch.float32)
    same, ours = gradients(model, Kernels(2), *given, torch.float32)
    assert abs(same - loss) < 1e-5
    for name, gradient in plain.items():
        assert ((ours[name] - gradient).norm() / gradient.norm()).item() < 1e-5, name
    for ops in (Plain, Kernels(2)):  # in bfloat16 both are close, and neither is much closer
        close, rough = gradients(model, ops, *given, torch.bfloat16)
        assert abs(close - loss) < 0.01
        assert all(((rough[name] - g).norm() / g.norm()).item() < 0.06 for name, g in plain.items())
    again = gradients(model, Kernels(2), *given, torch.bfloat16)
    assert again[0] == close and all(torch.equal(again[1][name], g) for name, g in rough.items())


@pytest.mark.slow
def test_a_run_learns_as_in_float32_and_is_made_twice_alike(train, tmp_path):
    flags = "--n_heads 4 --model_config modern_tiny --context_length 64 --emb_dim 64 --drop_rate 0 --n_layers 2"
    length = "--batch_size 8 --max_steps 40 --warmup_steps 4 --eval_every 40 --eval_tokens 500"
    rows = {}
    for run, more in (("a", "bfloat16 kernels"), ("b", "bfloat16 kernels"), ("c", "float32 plain")):
        dtype, backend = more.split()
        assert train(f"--run {run} {flags} --dtype {dtype} --backend {backend}", length) == 0
        config = RunConfig.load(tmp_path / "models" / run / "run.json")
        assert (config.dtype, config.backend) == (dtype, backend)
        rows[run] = [row["loss"] for row in read_metrics(tmp_path / "models" / run, "train")]
    assert state(tmp_path / "models" / "a") == state(tmp_path / "models" / "b")
    assert rows["a"] != rows["c"] and abs(sum(rows["a"][-8:]) - sum(rows["c"][-8:])) / 8 < 0.005


@pytest.mark.slow
def test_a_run_goes_on_in_the_way_that_it_began(train, tmp_path, capsys):
    assert train("--run r --backend plain") == 0
    assert train("--run r", "--batch_size 8 --max_steps 14 --warmup_steps 4 --decay_share 0.2") == 0
    assert RunConfig.load(tmp_path / "models/r/run.json").backend == "plain"
    assert "another backend" not in capsys.readouterr().err
    assert train("--run r --backend kernels", "--batch_size 8 --max_steps 16 --warmup_steps 4 --decay_share 0.2") == 0
    assert "continuing with another backend: plain -> kernels" in capsys.readouterr().err


@pytest.fixture
def nothing_built(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "wikigpt"


def test_without_a_compiler_a_run_is_plain(train, tmp_path, nothing_built, monkeypatch, capsys):
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    assert train("--run r") == 0
    assert "since kernels does not work here" in capsys.readouterr().err
    assert RunConfig.load(tmp_path / "models/r/run.json").backend == "plain"
    monkeypatch.setenv("CC", "false")
    assert choose_backend("cpu") == ("plain", "backend: plain, since kernels does not work here: false failed")
    monkeypatch.setenv("CC", 'gcc "')
    assert choose_backend("cpu")[0] == "plain"
    monkeypatch.setenv("CC", "false")
    assert train("--run s --backend kernels") == 2
    assert "Take --backend plain." in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "models" / "s").exists()
    assert not list(nothing_built.glob("*.so"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [("--backend fast", "plain, kernels, compiled"), ("--backend kernels --device cuda", "There is no device 'cuda'")],
)
def test_a_backend_that_cannot_be_gets_one_line(train, tmp_path, capsys, flags, says):
    assert train(f"--run r {flags}") == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "models").exists()


BUILD = "from wikigpt.kernels import Kernels; Kernels(1)"


@pytest.mark.slow
def test_built_by_two_at_once_and_again_where_damaged(nothing_built):
    both = [subprocess.Popen([sys.executable, "-c", BUILD]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    (built,) = nothing_built.iterdir()  # and nothing else is left
    whole = built.read_bytes()
    built.write_bytes(whole[:1000])
    assert subprocess.run([sys.executable, "-c", BUILD]).returncode == 0
    assert len(built.read_bytes()) == len(whole)


def test_where_nothing_can_be_kept_they_are_built_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose_backend("cpu") == ("kernels", "")
