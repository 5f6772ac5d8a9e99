"""Every training setting does what its name says."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from wikigpt import optim
from wikigpt.config import TrainingSettings
from wikigpt.data.loader import Batch
from wikigpt.optim import learning_rate_at, make_optimizer, orthogonal, set_rates, training_step
from wikigpt.parallel import Loss
from wikigpt.transformer import GPTModel

SETTINGS = TrainingSettings(
    learning_rate=1e-2, num_epochs=1, batch_size=8, weight_decay=0.1, warmup_steps=10, gradient_accumulation_steps=1,
    max_grad_norm=1.0,
)  # fmt: skip


def rates(schedule, total=110, **changes):
    settings = replace(SETTINGS, schedule=schedule, **changes)
    return [learning_rate_at(step, total, settings) for step in range(total)]


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_the_warm_up_rises_to_the_peak(schedule):
    rise = rates(schedule)[:11]
    assert rise[0] == pytest.approx(1e-3) and rise[9] == pytest.approx(1e-2)
    assert all(b > a for a, b in pairwise(rise[:10]))


def test_cosine_falls_to_a_tenth():
    rate = rates("cosine")
    assert rate[60] == pytest.approx(1e-2 * 0.55)  # half way between the peak and a tenth of it
    assert rate[-1] == pytest.approx(1e-3, rel=0.01)


def test_wsd_stays_and_then_falls_to_zero():
    rate = rates("wsd")
    assert rate[10:88] == [1e-2] * 78
    assert rate[99] == pytest.approx(1e-2 / 2)
    assert 0 < rate[-1] < 1e-3


def test_constant_is_constant():
    assert set(rates("constant")[10:]) == {1e-2}


def test_no_warm_up_starts_at_the_peak():
    assert rates("constant", warmup_steps=0)[0] == 1e-2


def test_only_matrices_decay(nano):
    model = GPTModel(nano)
    decaying, free = make_optimizer(model, SETTINGS).param_groups
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in decaying["params"]} == {2} and {p.dim() for p in free["params"]} == {1}
    assert len(decaying["params"]) + len(free["params"]) == len(list(model.parameters()))


def one_step(nano, machine, **changes):
    """A model after one step on the same eight windows, and what the step returned."""
    settings = replace(SETTINGS, **changes)
    torch.manual_seed(0)
    model = GPTModel(nano)
    tokens = torch.randint(97, (8, 17), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # its step is the gradient itself
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    before = [p.detach().clone() for p in model.parameters()]
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    loss, norm = training_step(Loss(model), optimizer, scaler, batch, settings, machine).tolist()
    return loss, norm, [b - p.detach() for b, p in zip(before, model.parameters(), strict=True)]


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_the_large_batch(nano, machine, parts):
    loss, norm, step = one_step(nano, machine)
    loss_in_parts, norm_in_parts, step_in_parts = one_step(
        nano, machine, batch_size=8 // parts, gradient_accumulation_steps=parts
    )
    assert loss_in_parts == pytest.approx(loss, rel=1e-6) and norm_in_parts == pytest.approx(norm, rel=1e-5)
    for whole, summed in zip(step, step_in_parts, strict=True):
        torch.testing.assert_close(summed, whole, atol=1e-7, rtol=1e-4)


def test_clipping_shortens_the_step_to_max_grad_norm(nano, machine):
    def length(step):
        return torch.cat([part.flatten() for part in step]).norm().item()

    _, norm, free = one_step(nano, machine, max_grad_norm=0)
    assert length(free) == pytest.approx(norm, rel=1e-4)
    _, same_norm, clipped = one_step(nano, machine, max_grad_norm=norm / 10)
    assert length(clipped) == pytest.approx(norm / 10, rel=1e-3) and same_norm == pytest.approx(norm, rel=1e-5)


MUON = replace(SETTINGS, optimizer="muon", matrix_learning_rate=0.05)


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 96, 24), (1, 24, 96)])
def test_orthogonal_is_the_polar_factor(shape):
    """Of each U S V' it is nearly U V', if no singular value is far below a hundredth of the largest."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(noise, full_matrices=False)
    matrices = u @ torch.diag(torch.logspace(-2, 0, 24)) @ v
    for dtype in (torch.float32, torch.bfloat16):
        found = orthogonal(matrices, dtype)
        assert found.dtype == dtype
        found = found.float()
        assert (torch.linalg.svdvals(found) - 1).abs().max() < 0.2
        torch.testing.assert_close(found, u @ v, atol=0.1, rtol=0)
    quiet = orthogonal(matrices * 1e-9, torch.float16).float()  # what 16 bits could not hold as it is
    torch.testing.assert_close(quiet, u @ v, atol=0.1, rtol=0)
    assert torch.equal(orthogonal(torch.zeros(shape), torch.float32), torch.zeros(shape))  # a matrix without a gradient


def test_our_muon_moves_as_that_of_torch(monkeypatch):
    """With the polynomial that torch uses, plain decay, and a momentum that does not change."""
    monkeypatch.setattr(optim, "POLAR_EXPRESS", ((3.4445, -4.775, 2.0315),) * 5)
    monkeypatch.setattr(optim, "MARGIN", 0.0)
    torch.manual_seed(0)
    start = [torch.randn(24, 24), torch.randn(24, 24), torch.randn(48, 24), torch.randn(24, 48)]
    ours, theirs = ([torch.nn.Parameter(w.clone()) for w in start] for _ in range(2))
    group = {"params": ours, "parts": 1, "momentum": 0.95, "weight_decay": 0.1}
    mine = optim.Muon([group], torch.bfloat16, lr=0.02, fused=True)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
    for a, b, w in zip(ours, theirs, start, strict=True):
        assert (a - b).abs().max() < 0.1 * (b - w).abs().max()  # both calculate in 16 bits, in another order


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest(nano):
    model = GPTModel(nano)
    optimizer = make_optimizer(model, MUON)
    names = {id(p): name for name, p in model.named_parameters()}
    muons = {names[id(p)] for group in optimizer.param_groups if "momentum" in group for p in group["params"]}
    assert muons == {n for n, p in model.named_parameters() if n.startswith("blocks.") and p.dim() == 2}
    everything = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everything) == sorted(names)
    assert set_rates(optimizer, 9, 110, MUON) == 1e-2
    rates = {group["lr"] for group in optimizer.param_groups if "momentum" in group}
    assert [*rates] == pytest.approx([0.05]) and {group["lr"] for group in optimizer.param_groups} - rates == {1e-2}


def test_queries_keys_and_values_in_one_matrix_are_three(nano):
    """A gradient in the queries alone moves the queries alone, and all of their directions alike."""
    model = GPTModel(nano)
    optimizer = make_optimizer(model, replace(MUON, weight_decay=0.0))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    qkv = model.blocks[0].attn.qkv.weight
    qkv.grad[:24] = torch.linalg.qr(torch.randn(24, 24)).Q @ torch.diag(torch.linspace(1, 9, 24))
    set_rates(optimizer, 20, 110, MUON)
    optimizer.step()
    moved = before["blocks.0.attn.qkv.weight"] - qkv.detach()
    assert not moved[24:].any()
    assert torch.linalg.svdvals(moved[:24]) == pytest.approx(torch.full((24,), 0.05), rel=0.3)


def test_blocks_that_begin_at_zero_do_nothing(nano):
    model = GPTModel(nano)
    model.initialise(zero_projections=True)
    ids = torch.arange(8)[None]
    stream = model.tok_emb(ids) + model.pos_emb(torch.arange(8))
    assert torch.equal(model.hidden(ids), model.final_norm(stream))


def test_a_scaler_passes_over_a_broken_step_of_muon_too(nano, machine):
    """As with float16 on a card: a gradient that is no number moves nothing, and the next step moves everything."""
    torch.manual_seed(0)
    model = GPTModel(nano)
    optimizer = make_optimizer(model, MUON)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    tokens = torch.randint(97, (8, 17))
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    loss = model.loss(batch.inputs_BT, batch.targets_BT)
    scaler.scale(loss).backward()
    model.blocks[0].ff.up.weight.grad[0, 0] = float("inf")
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
    training_step(Loss(model), optimizer, scaler, batch, MUON, machine)
    assert not any(torch.equal(before[n], p) for n, p in model.named_parameters())
