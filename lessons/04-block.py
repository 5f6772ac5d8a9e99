# %% [markdown]
# # Chapter 4: One block
#
# A GPT is one block, many times. A block is attention and a feed-forward, each with a **norm** before it and a **residual** connection around
# it. Four parts; what is each of them for? The honest way to find out is to take each away.
#
# After this chapter you can
#
# - write a block, and say in which order its parts come and why;
# - say what breaks without each part;
# - say what a norm and a gelu calculate.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from wikigpt.analysis.inside import look_inside
from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings
from wikigpt.data.loader import TrainingBatches, evaluation_batches
from wikigpt.evaluate import bigram_score
from wikigpt.generate import load_model
from wikigpt.learn.lesson import begin, few, first_run, picture, sample
from wikigpt.optim import make_optimizer, set_rates
from wikigpt.tokenizer import load
from wikigpt.transformer import GPTModel, TransformerBlock

begin()
torch.manual_seed(0)
data = sample()

# %% [markdown]
# ## Two small parts
#
# A **norm** takes each vector's mean away and divides by its deviation, so that whatever comes in, vectors of one size come out; then it multiplies and
# shifts by learned numbers. **gelu** is the bend between two linear layers: without a bend, two of them in a row are no more than one.

# %%
x_ND = torch.randn(3, 8) * torch.tensor([[0.1], [1.0], [50.0]])
centred_ND = x_ND - x_ND.mean(-1, keepdim=True)
by_hand = centred_ND / (centred_ND.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
print("deviations before:", [f"{d:.2f}" for d in x_ND.std(-1)], " after:", [f"{d:.2f}" for d in by_hand.std(-1)])
print("differs from PyTorch's by at most", f"{(by_hand - F.layer_norm(x_ND, (8,))).abs().max():.1e}")
side = torch.linspace(-4, 4, 200)
figure, ax = plt.subplots(figsize=(5, 3))
for name, bend in (("gelu", lambda x: F.gelu(x, approximate="tanh")), ("relu", F.relu)):
    ax.plot(side, bend(side), label=name)
ax.set(title="Nearly 0 below, nearly x above")
ax.legend()
picture(figure, "04-gelu")

# %% [markdown]
# ## The stream
#
# Think of a stream that runs through the model, D numbers at every position. Attention reads the stream and **adds** something to
# it; the feed-forward reads it and adds something more. Nothing is ever replaced: that is what the residual connections are.
#
#     x = x + attention(norm1(x))          what do I find in the tokens before?
#     x = x + feed_forward(norm2(x))       what do I make of it?
#
# What would be lost without them? Take 12 blocks, not trained, and let them read a text. At first the vectors at two positions have
# nothing in common: the cosine of the angle between them is 0. Attention mixes positions, so they become more alike.
#
# **Predict**: how alike are two positions after 12 blocks with residual connections? And without? (1: the same direction everywhere, so
# that the model can no longer tell one place from another.)


# %%
class NoResidual(TransformerBlock):
    def calculate(self, x_BTD, rotation, cache):
        return self.ff(self.norm2(self.attn(self.norm1(x_BTD), rotation, cache)))


class NoNorm(TransformerBlock):
    def __init__(self, config, layer):
        super().__init__(config, layer)
        del self.norm1, self.norm2

    def calculate(self, x_BTD, rotation, cache):
        x_BTD = x_BTD + self.attn(x_BTD, rotation, cache)
        return x_BTD + self.ff(x_BTD)


class NoFeedForward(TransformerBlock):
    def __init__(self, config, layer):
        super().__init__(config, layer)
        del self.norm2, self.ff

    def calculate(self, x_BTD, rotation, cache):
        return x_BTD + self.attn(self.norm1(x_BTD), rotation, cache)


class NoAttention(TransformerBlock):
    def __init__(self, config, layer):
        super().__init__(config, layer)
        del self.norm1, self.attn

    def calculate(self, x_BTD, rotation, cache):
        return x_BTD + self.ff(self.norm2(x_BTD))


def make(kind: type[TransformerBlock], n_layers: int) -> GPTModel:
    torch.manual_seed(0)
    config = ModelConfig(**{**MODEL_CONFIGS["tiny"], "vocab_size": data.vocab_size, "n_layers": n_layers})
    model = GPTModel(config)
    model.blocks = torch.nn.ModuleList(kind(config, layer) for layer in range(n_layers))
    model.initialise()
    return model


window = TrainingBatches(data, 128, 1, seed=1)[0].inputs_BT[0]
figure, ax = plt.subplots(figsize=(6.5, 3.8))
for kind, label in ((TransformerBlock, "the whole block"), (NoResidual, "without residual connections")):
    stream_LTD = look_inside(make(kind, few(12, 3)), window.tolist()).stream_LTD
    directions_LTD = F.normalize(stream_LTD, dim=-1)
    T = len(window)
    alike = [float((d_TD @ d_TD.T).sum() - T) / (T * (T - 1)) for d_TD in directions_LTD]
    ax.plot(alike, "o-", label=label)
    print(f"{label}: {', '.join(f'{cosine:.2f}' for cosine in alike)}")
ax.set(
    xlabel="after block",
    ylabel="mean cosine of two positions",
    title="How alike the positions become, before any training",
)
ax.legend()
picture(figure, "04-alike")

# %% [markdown]
# With them, each block adds a little to a stream that still says which token stands here. Without them only the mixtures are handed on,
# and mixtures of mixtures: after a few blocks all positions say the same (Dong et al. 2021, "Attention is not all you need"). Nothing that
# comes after can learn from that.
#
# ## Remove each, and train
#
# Two blocks, trained for a short while on Wikipedia; then the same without each part.
#
# **Predict** the order, from the best to the worst: whole, no norm, no residual, no feed-forward, no attention. One of them has a floor
# that you know from chapter 2: which, and where is it?

# %%
STEPS, EVERY = few(200, 3), few(25, 1)
settings = TrainingSettings(**{**TRAINING_SETTINGS["small_models"], "batch_size": few(16, 2)})
batches = TrainingBatches(data, 128, settings.batch_size, seed=1)
validation = list(evaluation_batches(data, "validation", 128, 32, max_tokens=few(8_192, 256)))


@torch.no_grad()
def validate(model: GPTModel) -> float:
    total = sum(float(model.loss(b.inputs_BT, b.targets_BT, reduction="sum")) for b in validation)
    return total / sum(b.targets_BT.numel() for b in validation)


def train(model: GPTModel) -> list[tuple[int, float]]:
    optimizer, curve = make_optimizer(model, settings), [(0, validate(model))]
    for step in range(STEPS):
        set_rates(optimizer, step, STEPS, settings)
        batch = batches[step]
        model.loss(batch.inputs_BT, batch.targets_BT).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % EVERY == 0:
            curve.append((step + 1, validate(model)))
    return curve


curves = {}
for kind, label in (
    (TransformerBlock, "whole"), (NoNorm, "no norm"), (NoResidual, "no residual"),
    (NoFeedForward, "no feed-forward"), (NoAttention, "no attention"),
):  # fmt: skip
    curves[label] = train(make(kind, 2))
    print(f"{label:>16}: {curves[label][-1][1]:.3f} nats per token after {STEPS} steps")
tokenizer = load(data.path / "tokenizer")
bigram = bigram_score(data, "validation", tokenizer.token_bytes, few(8_192, 256)).loss
print(f"the bigram (Kneser-Ney) on the same tokens: {bigram:.3f}")

figure, ax = plt.subplots(figsize=(7, 4.2))
for label, curve in curves.items():
    ax.plot(*zip(*curve, strict=True), label=f"{label}: {curve[-1][1]:.2f}", linewidth=2.5 if label == "whole" else 1.3)
ax.axhline(bigram, color="grey", linestyle=":", label=f"bigram: {bigram:.2f}")
ax.set(xlabel="step", ylabel="validation loss, nats per token", title="A block without each of its parts")
ax.legend()
picture(figure, "04-without")

# %% [markdown]
# Without residual connections it is far behind, and has only two blocks to get through. Without norms or without a feed-forward it learns,
# and more slowly. And without attention it is nearly as good as the whole, *so far*: a model first learns what follows
# the last token, and for that alone it needs no attention. But it sees a single token and its place, so however long it trains, the
# bigram's line is about as far as it gets; the whole block goes on far below it, as the trained run below shows.
#
# ## In a model that is trained already
#
# The same question put to the trained model of chapter 3: what if a part of it falls silent now?
#
# **Predict**: which hurts more, to silence attention or the feed-forward? In the first block or in the second?

# %%
trained, _ = load_model(first_run(), "cpu")
whole = validate(trained)
print(f"whole: {whole:.3f}")
for number, block in enumerate(trained.blocks):
    for part in ("attn", "ff"):
        module = getattr(block, part)
        hook = module.register_forward_hook(lambda *given: torch.zeros_like(given[2]))
        print(f"block {number} without {part:<4}: {validate(trained):.3f}  (+{validate(trained) - whole:.3f})")
        hook.remove()

# %% [markdown]
# Silencing a part of a trained model says what *this* model had come to rely on; training without it says what it could do without. They
# are different questions, and the second one is the fair one.

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 4`: LayerNorm, gelu, the feed-forward and the block, with the package's numbers for the same weights.
#
# Then, here:
#
# 1. Train `NoAttention` and the whole block for 600 steps (two minutes each). Where do the curves part?
# 2. Put the norms behind the sums, as the first transformers had them (`x = norm(x + attention(x))`). Train 2 and 8 blocks of each.
# 3. `make(TransformerBlock, 1)` and `make(TransformerBlock, 8)`: what do more blocks buy in 200 steps, and what do they cost in seconds?
