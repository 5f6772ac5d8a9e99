"""Every training setting does what its name says."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from wikigpt.config import TrainingSettings
from wikigpt.data.loader import Batch
from wikigpt.optim import learning_rate_at, make_optimizer, training_step
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
    loss, norm = training_step(model, optimizer, scaler, Batch(tokens[:, :-1], tokens[:, 1:]), settings, machine)
    return loss, norm, [b - p.detach() for b, p in zip(before, model.parameters(), strict=True)]


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_the_large_batch(nano, machine, parts):
    loss, norm, step = one_step(nano, machine)
    loss_in_parts, norm_in_parts, step_in_parts = one_step(nano, machine, gradient_accumulation_steps=parts)
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
