"""What my_gpt/training.py must do."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from wikigpt.config import TRAINING_SETTINGS, ModelConfig, TrainingSettings
from wikigpt.learn.expect import check, expect, same
from wikigpt.optim import learning_rate_at
from wikigpt.transformer import GPTModel

CONFIG = ModelConfig(vocab_size=256, context_length=32, emb_dim=32, n_heads=2, n_layers=2, drop_rate=0.0, qkv_bias=True)
TEXT = "The moon goes around the earth, and the earth goes around the sun. Nobody has asked the sun what it thinks of that. "


class Toy(nn.Module):
    """Ids (B, T) to logits (B, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.out = nn.Embedding(7, 5), nn.Linear(5, 7)

    def forward(self, ids):
        return self.out(self.emb(ids))


def batches(size=8, context=32, seed=0):
    """Windows from a text, for ever."""
    ids = torch.tensor(list(TEXT.encode() * 20))
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(0, len(ids) - context - 1, (size,), generator=generator)
        rows = torch.stack([ids[s : s + context + 1] for s in starts])
        yield rows[:, :-1], rows[:, 1:]


@check(
    "cross_entropy: -ln p of what came",
    "logits.log_softmax(-1) are the logarithms of the probabilities, without ever overflowing.",
    "x.gather(-1, targets[..., None]) picks one number for every position.",
    "return -logits.log_softmax(-1).gather(-1, targets[..., None]).mean()",
)
def cross_entropy(mine):
    logits, targets = torch.randn(2, 3, 5) * 2, torch.randint(0, 5, (2, 3))
    right = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    mistakes = {
        "the sign is wrong": -right,
        "this is the sum over all positions, and should be the mean": right * 6,
        "the softmax is over time, and should be over the vocabulary (the last axis)": -logits.log_softmax(1)
        .gather(-1, targets[..., None])
        .mean(),
        "this is in bits: take the natural logarithm": right / math.log(2),
        "softmax was taken twice": F.cross_entropy(logits.softmax(-1).flatten(0, 1), targets.flatten()),
        "log is missing: these are probabilities": -logits.softmax(-1).gather(-1, targets[..., None]).mean(),
        "the logits themselves were taken; log_softmax makes logarithms of probabilities of them": -logits.gather(
            -1, targets[..., None]
        ).mean(),
    }
    same(mine.cross_entropy(logits, targets), right, "cross_entropy(logits, targets)", mistakes)
    huge = mine.cross_entropy(torch.tensor([[[1000.0, 0.0]]]), torch.tensor([[1]]))
    same(
        huge,
        torch.tensor(1000.0),
        "cross_entropy of a logit of 1,000: take log_softmax, not softmax and log; the result",
    )


@check(
    "learning_rate_at: up, then along a cosine",
    "Before warmup_steps: peak * (step + 1) / warmup_steps.",
    "progress = (step - warmup_steps) / (total_steps - warmup_steps), from 0 to 1.",
    "(1 + math.cos(math.pi * progress)) / 2 falls from 1 to 0; 0.1 + 0.9 times that falls from 1 to a tenth.",
)
def rate(mine):
    settings = TrainingSettings(
        **{**TRAINING_SETTINGS["fast"], "learning_rate": 0.01, "warmup_steps": 10, "schedule": "cosine"}
    )
    same(float(mine.learning_rate_at(0, 100, 0.01, 10)), 0.001, "the rate of step 0", {"it begins at 0: step + 1": 0.0})

    def fallen(progress, low=0.1):
        return 0.01 * (low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2)

    for step in (4, 9, 10, 11, 55, 99):
        mistakes = {
            "it falls to 0, and should to a tenth of the peak": fallen((step - 10) / 90, 0.0),
            "progress counts from step 0; it should from the end of the warm-up": fallen(step / 100),
            "progress should be a share of the steps after the warm-up": fallen((step - 10) / 100),
            "it would reach the tenth at the last step; it should at total_steps, one later": fallen((step - 10) / 89),
            "it falls along a straight line, and should along a cosine": 0.01 * (1 - 0.9 * (step - 10) / 90),
        }
        got, right = float(mine.learning_rate_at(step, 100, 0.01, 10)), learning_rate_at(step, 100, settings)
        same(got, right, f"the rate of step {step}", mistakes if step > 10 else (), close=1e-6)


@check(
    "clip: a gradient that is too long",
    "The length of all gradients as one vector: the root of the sum of the squares of all their numbers.",
    "Scale all by the same factor, longest / length, and only where length > longest.",
    "gradient.mul_(factor) changes it in place.",
)
def clip(mine):
    a, b, without = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    same(float(mine.clip([a, b, without], 1.0)), 5.0, "what clip returns: how long the gradient was")
    each = {"each gradient was clipped alone; it is the length of all together": torch.tensor([1.0, 0.0])}
    same(a.grad, torch.tensor([0.6, 0.0]), "a gradient of (3, 0), beside one of (0, 4), clipped to 1", each)
    same(b.grad, torch.tensor([0.0, 0.8]), "the other")
    mine.clip([a, b], 7.0)
    same(a.grad, torch.tensor([0.6, 0.0]), "a gradient that is short enough: it")
    mine.clip(iter([a, b]), 0.5)
    same(a.grad, torch.tensor([0.3, 0.0]), "a gradient from an iterator, which can be walked through once")


@check(
    "backward_in_parts: the gradient of the whole batch",
    "zip(inputs.chunk(parts), targets.chunk(parts)) are the parts; backward() adds to .grad what each gives.",
    "The mean over the batch is the mean of the parts' means: divide each part's loss by `parts` before backward().",
)
def parts(mine):
    toy = Toy()
    inputs, targets = torch.randint(0, 7, (2, 6, 4)).unbind()
    loss = F.cross_entropy(toy(inputs).flatten(0, 1), targets.flatten())
    right = torch.autograd.grad(loss, toy.out.weight)[0]
    for number in (1, 3):
        toy.zero_grad()
        got = mine.backward_in_parts(toy, inputs, targets, number)
        expect(toy.out.weight.grad is not None, "backward() was not called: there is no gradient.")
        last = torch.autograd.grad(
            F.cross_entropy(toy(inputs[-2:]).flatten(0, 1), targets[-2:].flatten()), toy.out.weight
        )[0]
        mistakes = {
            "gradients of the parts are added up, and should be averaged: divide each loss by `parts`": right * number,
            "only the last part counts": last,
            "only the last part counts, and a share of it": last / number,
        }
        same(toy.out.weight.grad, right, f"the gradient with parts={number}", mistakes)
        same(float(got), loss.item(), f"what it returns with parts={number}: the mean loss")


@check(
    "AdamW: three steps as PyTorch's",
    "m and v hold one tensor for every parameter, zeros at first; n counts steps from 1.",
    "m.mul_(0.9).add_(0.1 * p.grad), v.mul_(0.95).add_(0.05 * p.grad**2), all inside torch.no_grad().",
    "Decay first, and only where p.dim() == 2: p.sub_(rate * decay * p). It is not part of m and v: that is the W in AdamW.",
    "Then p.sub_(rate * (m / (1 - 0.9**n)) / ((v / (1 - 0.95**n)).sqrt() + 1e-8)), and p.grad = None.",
)
def adamw(mine):
    start, gradients = torch.randn(3, 4), torch.randn(3, 3, 4)

    def after(n, decay=0.1, vector=False):
        own = nn.Parameter((start[0] if vector else start).clone())
        reference = nn.Parameter(own.detach().clone())
        ours = mine.AdamW(iter([own]), decay)
        theirs = torch.optim.AdamW([reference], betas=(0.9, 0.95), weight_decay=0.0 if vector else decay)
        for step in range(n):
            own.grad = (gradients[step][0] if vector else gradients[step]).clone()
            reference.grad = own.grad.clone()
            theirs.param_groups[0]["lr"] = 0.01 * (step + 1)
            ours.step(0.01 * (step + 1))
            theirs.step()
        return own, reference

    own, reference = after(1, 0.0)
    sign = start - 0.01 * gradients[0].sign() * 0.1 / math.sqrt(0.05)
    mistakes = {
        "nothing has moved": start,
        "it went uphill": 2 * start - reference.detach(),
        "m and v are not divided by 1 - 0.9^n and 1 - 0.95^n": sign,
    }
    mistakes["the root of v is missing"] = start - 0.01 * gradients[0] / (gradients[0] ** 2 + 1e-8)
    what = "a matrix after one step without decay (the parameters came as an iterator: keep list(parameters))"
    same(own.detach(), reference.detach(), what, mistakes, close=1e-5)
    expect(own.grad is None, "After a step, .grad should be None, as the docstring asks (zeros are not None).")
    own, reference = after(3, 0.0)
    same(own.detach(), reference.detach(), "a matrix after three steps without decay", close=1e-5)
    own, reference = after(1)
    mistakes = {
        "decay is missing": after(1, 0.0)[1].detach(),
        "decay is not multiplied by the learning rate": reference.detach() - start * (0.1 - 0.001),
        "decay is part of the gradient: it should move the parameter by itself": start
        - 0.01 * (gradients[0] + 0.1 * start).sign(),
    }
    same(own.detach(), reference.detach(), "a matrix after one step with decay 0.1", mistakes, close=1e-5)
    own, reference = after(3)
    same(own.detach(), reference.detach(), "a matrix after three steps with decay 0.1", close=1e-5)
    own, reference = after(2, vector=True)
    same(own.detach(), reference.detach(), "a vector, which should not decay, after two steps", close=1e-5)


@check(
    "validate: the mean over all tokens",
    "The last batch may be smaller: weigh each loss by targets.numel(), and divide the sum by all tokens.",
    "with torch.no_grad(): nothing is kept for a backward pass.",
)
def validate(mine):
    toy = Toy()
    ids = torch.randint(0, 7, (2, 5, 4)).unbind()
    uneven = [(ids[0][:4], ids[1][:4]), (ids[0][4:], ids[1][4:])]
    losses = [F.cross_entropy(toy(i).flatten(0, 1), t.flatten()).item() for i, t in uneven]
    right = (4 * losses[0] + losses[1]) / 5
    mean = {"a batch of four counts as much as one of one; tokens should count alike": sum(losses) / 2}
    remembered = []
    hook = toy.register_forward_hook(lambda *_: remembered.append(torch.is_grad_enabled()))
    same(float(mine.validate(toy, iter(uneven))), right, "validate(model, batches)", mean, close=1e-5)
    hook.remove()
    expect(
        not any(remembered), "validate keeps all that a backward pass would need: put it in `with torch.no_grad():`."
    )
    expect(all(p.grad is None for p in toy.parameters()), "validate leaves gradients behind.")


@check(
    "train: the loss falls",
    "for step, (inputs, targets) in zip(range(total_steps), batches): batches may be endless.",
    "Each step: backward_in_parts, clip, optimizer.step(learning_rate_at(...)).",
    "AdamW is made once, before the loop: it remembers.",
)
def train(mine):
    model, seen = GPTModel(CONFIG), []

    def counted():
        for batch in batches():
            seen.append(1)
            yield batch

    made, clipped, rates = [], [], []
    optimizer, clip = mine.AdamW, mine.clip

    class Watched(optimizer):
        def __init__(self, *given, **named):
            made.append((given, named))
            super().__init__(*given, **named)

        def step(self, rate):
            rates.append(float(rate))
            return super().step(rate)

    mine.AdamW, mine.clip = Watched, lambda *given, **named: (clipped.append(len(rates)), clip(*given, **named))[1]
    try:
        losses = mine.train(model, counted(), 120)
        ran, steps = list(rates), list(clipped)
        rates.clear()
        mine.train(GPTModel(CONFIG), batches(), 4)
    finally:
        mine.AdamW, mine.clip = optimizer, clip
    expect(
        isinstance(losses, list) and len(losses) == 120,
        "train should return a list with the loss of each of 120 steps.",
    )
    expect(len(seen) in (120, 121), f"120 steps should read 120 batches, and {len(seen)} were read.")
    expect(
        len(made) == 2,
        f"AdamW should be made once, before the loop, or it forgets m and v; it was made {len(made)} times in two runs.",
    )
    expect(len(ran) == 120, f"AdamW.step should be called in each of 120 steps, and was called {len(ran)} times.")
    expect(steps == list(range(120)), "clip should be called once in each step, between the gradient and AdamW.step.")
    for total, warmup, got in ((120, 12, ran), (4, 1, rates)):  # of 4 steps a tenth is none: at least one
        for step, rate in enumerate(got):
            what = f"the rate that AdamW.step got in step {step} of {total}, with {warmup} to warm up"
            same(rate, mine.learning_rate_at(step, total, 3e-3, warmup), what, close=1e-6)
    expect(abs(losses[0] - math.log(256)) < 0.5, f"The first loss should be near ln 256 = 5.55 and is {losses[0]:.2f}.")
    end = sum(losses[-10:]) / 10
    expect(end < 2.5, f"After 120 steps the loss should be below 2.5 and is {end:.2f}.")


@check(
    "your own GPT learns: my_gpt/gpt.py, trained by my_gpt/training.py",
    "Everything works alone: what is different about your model? Chapter 5's checks say.",
)
def own(mine):
    from my_gpt.gpt import GPT

    model = GPT(CONFIG)
    losses = mine.train(model, batches(seed=1), 150)
    unseen = mine.validate(model, itertools.islice(batches(seed=2), 3))
    expect(
        sum(losses[-10:]) / 10 < 2.3,
        f"After 150 steps your GPT's loss should be below 2.3 and is {sum(losses[-10:]) / 10:.2f}.",
    )
    expect(unseen < 2.4, f"Its loss on other windows should be below 2.4 and is {unseen:.2f}.")
