# %% [markdown]
# # Chapter 6: The training loop
#
# Batch, loss, backward, clip, step. Five lines, again and again. This chapter writes them, says why each is there, and then breaks
# them on purpose: a gallery of runs that went wrong, so that you know them when you meet them.
#
# After this chapter you can
#
# - write a training loop, with warm-up, clipping, accumulation and validation;
# - look at two curves and say what is wrong;
# - train the GPT that you wrote.

# %%
import itertools
import math

import matplotlib.pyplot as plt
import torch

from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings
from wikigpt.data.loader import Batch, TrainingBatches, evaluation_batches
from wikigpt.learn.lesson import begin, few, mine, picture, sample
from wikigpt.optim import learning_rate_at, make_optimizer, set_rates
from wikigpt.transformer import GPTModel

begin()
data = sample()
V = data.vocab_size

# %% [markdown]
# ## One step
#
# A GPT that is deep and narrow (12 blocks of 64 numbers: it shows its troubles early), and AdamW.
#
# **Predict**: the loss before the first step, and whether three steps bring it below 7.


# %%
def make(n_layers: int = 12, emb_dim: int = 64, context: int = 64) -> GPTModel:
    torch.manual_seed(0)
    shape = {"vocab_size": V, "n_layers": n_layers, "emb_dim": emb_dim, "n_heads": 2, "context_length": context}
    return GPTModel(ModelConfig(**{**MODEL_CONFIGS["tiny"], **shape}))


settings = TrainingSettings(
    **{**TRAINING_SETTINGS["fast"], "learning_rate": 2e-3, "warmup_steps": 30, "batch_size": few(16, 2)}
)
batches = TrainingBatches(data, 64, settings.batch_size, seed=1)
STEPS = few(150, 4)
model = make()
optimizer = make_optimizer(model, settings)
for step in range(3):
    rate = set_rates(optimizer, step, STEPS, settings)  # how far to go, at this step
    batch = batches[step]  # B windows of T tokens, and the same one token later
    loss = model.loss(batch.inputs_BT, batch.targets_BT)  # how wrong it is
    loss.backward()  # which way is down, for every parameter
    length = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)  # no giant steps
    optimizer.step()  # walk
    optimizer.zero_grad()  # forget, or the next gradient adds to this one
    print(f"step {step}: loss {loss.item():.3f}, gradient {length:.2f}, rate {rate:.1e}")

# %% [markdown]
# It begins at ln V = 7.62, as it must, and moves little: the first steps are small on purpose.
#
# ## AdamW, by hand
#
# The longest part of a step is one line, `optimizer.step()`. For every number it keeps two running means: m, of its gradient, and v, of its
# gradient's square. It moves by the rate times m / sqrt(v): in the direction that gradients agree on, and by about the rate itself, however large
# they are.
#
# **Predict**: two numbers with gradients 100 and 0.001 at the first step, rate 0.01. How far does each move?

# %%
p, g, rate = torch.tensor([1.0, 1.0]), torch.tensor([100.0, 0.001]), 0.01
m, v = 0.1 * g, 0.05 * g**2  # 0.9 m + 0.1 g and 0.95 v + 0.05 g^2, both from 0
moved = rate * (m / (1 - 0.9)) / ((v / (1 - 0.95)).sqrt() + 1e-8)  # made up for having begun at 0
reference = torch.nn.Parameter(p.clone())
reference.grad = g.clone()
torch.optim.AdamW([reference], lr=rate, betas=(0.9, 0.95), weight_decay=0.0).step()
print("by hand:", (p - moved).tolist(), " PyTorch:", reference.tolist())

# %% [markdown]
# ## How far: the learning rate
#
# AdamW moves every parameter by about the learning rate, whatever the size of its gradient. At first its idea of how large gradients
# usually are is made of one gradient, so its first steps are wild: **warm-up** keeps them short. In the end short steps settle into the valley:
# **decay**. Two schedules of the package:

# %%
figure, ax = plt.subplots(figsize=(7, 3.2))
for schedule, share in (("cosine", 0.2), ("wsd", 0.6)):
    chosen = TrainingSettings(
        **{
            **TRAINING_SETTINGS["fast"],
            "warmup_steps": 30,
            "schedule": schedule,
            "decay_share": share,
            "learning_rate": 2e-3,
        }
    )
    ax.plot([learning_rate_at(step, 150, chosen) for step in range(150)], label=schedule)
ax.set(xlabel="step", ylabel="learning rate", title="Up, then down")
ax.legend()
picture(figure, "06-rates")

# %% [markdown]
# ## More text than fits: accumulation
#
# A batch that does not fit into memory is cut into parts. Gradients add up by themselves, since `backward()` adds to what is there; so the mean over
# the batch is the sum of the parts' losses, each divided by the number of parts.
#
# **Predict**: how large is the difference between one batch of 16 and four parts of 4?

# %%
batch = batches[0]
whole, parts = make(2), make(2)
whole.loss(batch.inputs_BT, batch.targets_BT).backward()
pieces = batch.split(few(4, 2))
for part in pieces:
    (parts.loss(part.inputs_BT, part.targets_BT) / len(pieces)).backward()
apart = max(float((a.grad - b.grad).abs().max()) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
print(f"{len(pieces)} parts: the gradients differ by at most {apart:.1e}")

# %% [markdown]
# Rounding. So a small card can take the same steps as a large one, only slower: `gradient_accumulation_steps`.
#
# ## A gallery of broken runs
#
# The same model and the same text, nine times. The first is well. Each of the others has one mistake, and all of them are mistakes that somebody
# made in earnest.
#
# **Predict**, before you look: for each of them, does the training loss show it? Does the validation loss?
#
# 1. *well*: rate 2e-3, warm-up of 30 steps
# 2. *too hot*: ten times the rate
# 3. *too cold*: a fortieth of it
# 4. *no warm-up*
# 5. *frozen part*: the token embedding was forgotten in the optimiser
# 6. *no zero_grad*: old gradients stay
# 7. *targets not shifted*: it should say the token that it is given
# 8. *validation leaked*: a small text, read again and again, and validation windows taken from that same text
# 9. *the same run, honest*: the same training as 8, validation from other articles

# %%
validation = list(evaluation_batches(data, "validation", 64, 64, max_tokens=few(8192, 128)))
TRAINED, VALIDATED = "tab:blue", "tab:orange"


@torch.no_grad()
def validate(model: GPTModel, batches: list[Batch], shift: bool = True) -> float:
    total = sum(
        float(model.loss(b.inputs_BT, b.targets_BT if shift else b.inputs_BT, reduction="sum")) for b in batches
    )
    return total / sum(b.targets_BT.numel() for b in batches)


def train(
    model: GPTModel,
    settings: TrainingSettings,
    frozen: str = "nothing",
    zero_grad: bool = True,
    shift: bool = True,
    only: int | None = None,
    checked: list[list[Batch]] | None = None,
) -> tuple[list[float], list[list[tuple[int, float]]]]:
    """Losses of all steps, and for each set of validation windows its loss now and then. `only`: the same few batches, again
    and again."""
    optimizer, losses = make_optimizer(model, settings), []
    checked = checked or [validation]
    curves: list[list[tuple[int, float]]] = [[] for _ in checked]
    for step in range(STEPS):
        set_rates(optimizer, step, STEPS, settings)
        batch = batches[step % only if only else step]
        loss = model.loss(batch.inputs_BT, batch.targets_BT if shift else batch.inputs_BT)
        loss.backward()
        for name, parameter in model.named_parameters():
            if name.startswith(frozen):
                parameter.grad.zero_()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if zero_grad:
            optimizer.zero_grad()
        losses.append(loss.item())
        if step % few(25, 2) == 0 or step == STEPS - 1:
            for curve, windows in zip(curves, checked, strict=True):
                curve.append((step, validate(model, windows)))
    return losses, curves


def with_(**changes: float) -> TrainingSettings:
    return TrainingSettings(**{**vars(settings), **changes})


runs = {
    "1. well": train(make(), settings),
    "2. too hot": train(make(), with_(learning_rate=2e-2)),
    "3. too cold": train(make(), with_(learning_rate=5e-5)),
    "4. no warm-up": train(make(), with_(warmup_steps=0)),
    "5. frozen part": train(make(), settings, frozen="tok_emb"),
    "6. no zero_grad": train(make(), settings, zero_grad=False),
    "7. targets not shifted": train(make(), settings, shift=False),
}
muon = TrainingSettings(**{**TRAINING_SETTINGS["small_models"], "batch_size": settings.batch_size})
seen = [batches[n] for n in range(4)]
losses, (leaked, honest) = train(make(2, 128), muon, only=4, checked=[seen, validation])
runs["8. validation leaked"], runs["9. the same run, honest"] = (losses, [leaked]), (losses, [honest])

figure, axes = plt.subplots(3, 3, figsize=(12, 9), sharex=True)
for ax, (name, (losses, curves)) in zip(axes.flat, runs.items(), strict=True):
    ax.plot(losses, color=TRAINED, linewidth=1, label="training")
    ax.plot(*zip(*curves[0], strict=True), "o-", color=VALIDATED, markersize=3, label="validation")
    ax.axhline(math.log(V), color="grey", linestyle=":", linewidth=1)
    ax.axhline(6.50, color="tab:red", linestyle=":", linewidth=1)
    ax.set(title=f"{name}: {curves[0][-1][1]:.2f}", ylim=(5.5, 8) if ax in axes[:2] else (0, 10))
    print(f"{name:>24}: training {sum(losses[-10:]) / len(losses[-10:]):5.2f}, validation {curves[0][-1][1]:5.2f}")
axes[0, 0].legend()
figure.supxlabel("step")
figure.supylabel("nats per token   (dotted: ln V, and the unigram of chapter 2)")
picture(figure, "06-gallery")

# %% [markdown]
# What to look for, and what to do:
#
# | what you see | what it may be | what to do |
# |---|---|---|
# | falls to the unigram (here 6.5) and stays there | rate too high, no warm-up in a deep model (a few wild steps at the start, and it never comes back), or gradients of old steps are still there | a third of the rate; warm-up of a hundredth to a tenth of the steps; `zero_grad()` after each step |
# | falls evenly and very slowly | rate too low | three times the rate, until it breaks; then half of that |
# | hardly below ln V | a part does not learn: frozen, detached, or not in the optimiser | look for parameters whose `.grad` is None or 0, or that do not change |
# | training falls far below any model you know, on new text (and validation 7, where the question is put rightly, rises) | the answer is in the question: targets not shifted, or a mask that lets the future through | compare inputs and targets as text; change the last token and look at the first logits |
# | validation as good as training, for many epochs on little text | validation was trained on | split by article, not by window (chapter 7) |
# | training falls on text that comes again, validation rises | it learns the text by heart | more text, fewer epochs, a smaller model |
# | loss is nan | rate much too high, or 16-bit overflow | lower rate, clipping, `--dtype float32` |
#
# (The spike of run 1 at step 30 is where its rate is highest; it comes back by itself, and that is normal once in a while.)
#
# The most dangerous is number 8: **nothing looks wrong**. Its curve is the best of them all.
#
# ## Your own GPT, trained by your own loop
#
# If you have done the exercises of this chapter and of chapter 5, this is all yours: model, loss, optimiser, loop. (Else the solutions
# stand in.)

# %%
GPT, training = mine("gpt").GPT, mine("training")
torch.manual_seed(0)
own = GPT(make(2, 128).config)
windows = ((b.inputs_BT, b.targets_BT) for b in (batches[n] for n in itertools.count()))
before = training.validate(own, ((b.inputs_BT, b.targets_BT) for b in validation))
losses = training.train(own, windows, few(200, 3), peak=3e-3)
after = training.validate(own, ((b.inputs_BT, b.targets_BT) for b in validation))
print(f"validation: {before:.2f} before, {after:.2f} after {len(losses)} steps")

# %% [markdown]
# And the package's loop, which you can read now: `wikigpt/train.py`. It is the same five lines; around them it saves, resumes, samples, and
# shares the work among several cards.

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 6`: the loss, the schedule, clipping, accumulation, AdamW, validation, and the loop.
#
# Then, here:
#
# 1. Give run 4 a model of two blocks instead of twelve. Does it still need a warm-up?
# 2. Break it in a way of your own (labels of another batch? dropout of 0.9? a `softmax` too many?), show the curve to somebody, and let them guess.
# 3. Take Muon for run 1: `with_(optimizer="muon", matrix_learning_rate=0.014, learning_rate=8e-3)`. How far below does it end?
