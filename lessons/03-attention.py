# %% [markdown]
# # Chapter 3: Attention
#
# A bigram sees one token. Attention lets every position look back at all that came before, and choose what it needs. Here it is by
# hand, four lines; then with the weights of a trained model, equal to PyTorch's fused version; then pictures of what real heads look at.
#
# After this chapter you can
#
# - write attention from memory, and say why each part of it is there;
# - find the mistakes that everyone makes: no scale, a mask off by one, softmax over the wrong axis;
# - read a picture of a head.

# %%
import math
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from wikigpt.analysis.inside import look_inside, shown
from wikigpt.generate import load_model, prompt_ids
from wikigpt.learn.lesson import begin, few, first_run, picture
from wikigpt.transformer import plain_attention

begin()
torch.manual_seed(0)

# %% [markdown]
# ## By hand
#
# Each position asks a question (**query** q), offers a label (**key** k), and has something to say (**value** v). Where a query and a key
# point the same way, their product is large, and the position that asked takes much of that value.
#
# Four positions, two numbers each. Position 3 asks the same as position 1 answers to.

# %%
q_TK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [4.0, 0.0]])
k_TK = torch.tensor([[0.0, 1.0], [4.0, 0.0], [0.0, 2.0], [0.5, 0.5]])
v_TK = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0], [1.0, 1.0]])

scores_TT = q_TK @ k_TK.T / math.sqrt(2)
seen_TT = torch.ones(4, 4, dtype=torch.bool).tril()
weights_TT = scores_TT.masked_fill(~seen_TT, float("-inf")).softmax(-1)

# %% [markdown]
# **Predict**: which value does position 3 end up with, roughly? And position 0?

# %%
print("weights, a row for each position that looks:\n", weights_TT.round(decimals=2))
print("what each ends up with:\n", (weights_TT @ v_TK).round(decimals=2))

# %% [markdown]
# Position 3 takes nearly all from position 1: (0, 10). Position 0 can see itself alone, so it gets its own value whatever its scores
# are. Compare the zeros above the diagonal with the triangle of chapter 0: it is the same product, but the weights were chosen by the
# content.
#
# ## Why divide by the root of K?
#
# A product of two random vectors of K numbers has deviation sqrt(K). With large scores softmax gives nearly everything to one place, and its
# gradient vanishes.
#
# **Predict**: with K = 64 and no division, how much of its weight does a random query give to its favourite among 64 keys? With the
# division?

# %%
figure, ax = plt.subplots(figsize=(7, 3.6))
for label, by in (("divided by the root of K", 8.0), ("not divided", 1.0)):
    scores = torch.randn(2000, 1, 64) @ torch.randn(2000, 64, 64) / by
    favourite = scores.softmax(-1).amax(-1).flatten()
    ax.hist(favourite, bins=40, range=(0, 1), alpha=0.6, label=f"{label}: {favourite.mean():.2f} on average")
    print(f"{label}: the favourite of 64 keys gets {favourite.mean():.2f}")
ax.set(
    xlabel="weight of the favourite key",
    ylabel="queries",
    title="Without the scale, a random query has already decided",
)
ax.legend()
picture(figure, "03-scale")

# %% [markdown]
# ## The same numbers, fused
#
# Now real sizes: batch, heads, time, head size. Four ways to calculate attention: by hand as above, the package's `plain_attention`,
# PyTorch's fused `scaled_dot_product_attention`, and what a trained model does. First the three on random numbers.


# %%
def by_hand(q_BHTK: torch.Tensor, k_BHTK: torch.Tensor, v_BHTK: torch.Tensor) -> torch.Tensor:
    T, K = q_BHTK.shape[-2:]
    scores_BHTT = q_BHTK @ k_BHTK.transpose(-1, -2) / math.sqrt(K)
    later_TT = torch.ones(T, T, dtype=torch.bool).triu(1)
    return scores_BHTT.masked_fill(later_TT, float("-inf")).softmax(-1) @ v_BHTK


q, k, v = torch.randn(3, 4, 4, 128, 32).unbind()
fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
print("by hand and fused differ by at most", f"{(by_hand(q, k, v) - fused).abs().max():.1e}")
print("plain_attention and fused by at most", f"{(plain_attention(q, k, v, 0.0) - fused).abs().max():.1e}")

# %% [markdown]
# Equal but for rounding. What the fused one saves is memory: it never holds the T x T weights of all heads at once.
#
# **Predict**: at 2,048 positions, which is faster? By how much?

# %%
for T in (128, 512, few(2048, 600)):
    q, k, v = torch.randn(3, 1, 4, T, 32).unbind()
    took = []
    for way in (by_hand, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)):
        way(q, k, v)
        times = []
        for _ in range(few(7, 1)):
            start = time.perf_counter()
            way(q, k, v)
            times.append(time.perf_counter() - start)
        took.append(sorted(times)[len(times) // 2] * 1000)
    weights = 4 * T * T * 4 / 2**20
    print(
        f"{T:>5} positions: by hand {took[0]:6.2f} ms, fused {took[1]:6.2f} ms; the weights by hand take {weights:.1f} MiB"
    )

# %% [markdown]
# ## What real heads look at
#
# A GPT-2 of two blocks with four heads each, trained on the sample. (The first time, this trains it: about a minute.)
# `look_inside` reads a text and keeps every head's weights.
#
# **Predict**: what would you look at, to guess the next token? The token before? The beginning? An earlier place where the same word
# stood?

# %%
run = first_run()
model, tokenizer = load_model(run, "cpu")
text = "# Moon\n\nThe Moon is the only natural satellite of the Earth. The Moon moves around the Earth in"
ids = prompt_ids(tokenizer, text)
inside = look_inside(model, ids)
names = [shown(tokenizer, i).replace("\n", "¶") for i in ids]
L, H = inside.attention_LHTT.shape[:2]
figure, axes = plt.subplots(L, H, figsize=(3.6 * H, 3.7 * L))
for layer in range(L):
    for head in range(H):
        ax = axes[layer, head]
        ax.imshow(inside.attention_LHTT[layer, head].sqrt().numpy(), cmap="magma", vmin=0, vmax=1)
        ax.set_title(f"block {layer}, head {head}", fontsize=9)
        ax.set_xticks(range(len(ids)), names, rotation=90, fontsize=5)
        ax.set_yticks(range(len(ids)), names, fontsize=5)
picture(figure, "03-heads")

# %% [markdown]
# Each row is a position that looks, each column a place that is looked at. Look for three things. A bright **line just below
# the diagonal**: a head that reads the token before. A bright **column**: one place that everything after it looks at, often the end of the
# title, or the last full stop, as if to ask where the sentence began. And **spots** in the lower half, where a word comes for the second time: what
# followed it the first time? The numbers say which head is which here (another machine trains slightly other heads):

# %%
T = len(ids)
at, before = torch.arange(1, T), torch.arange(T - 1)
again = [(t, s + 1) for t in range(T) for s in range(t - 1) if ids[s] == ids[t]]  # the token that followed it last time
found = {"the token before": [], "itself": [], "the end of the title": [], "what followed this token before": []}
for weights_TT in inside.attention_LHTT.flatten(0, 1):
    found["the token before"].append(float(weights_TT[at, before].mean()))
    found["itself"].append(float(weights_TT.diagonal().mean()))
    found["the end of the title"].append(float(weights_TT[4:, names.index("¶¶")].mean()))
    followed = sum(float(weights_TT[t, s]) for t, s in again) / len({t for t, _ in again})
    found["what followed this token before"].append(followed)
for what, shares in found.items():
    most = shares.index(max(shares))
    print(
        f"{what:>32}: most in block {most // H}, head {most % H}: {max(shares):.2f} (all: {', '.join(f'{s:.2f}' for s in shares)})"
    )

# %% [markdown]
# ## By hand, with trained weights
#
# The first block of the trained model, step by step, beside what the model itself calculates: its weights are numbers like any others.

# %%
with torch.no_grad():
    block = model.blocks[0]
    x_BTD = block.norm1(model.tok_emb(torch.tensor([ids])) + model.pos_emb(torch.arange(T)))
    q, k, v = (part.unflatten(-1, (H, -1)).transpose(1, 2) for part in block.attn.qkv(x_BTD).chunk(3, dim=-1))
    y_BTD = block.attn.out_proj(by_hand(q, k, v).transpose(1, 2).flatten(2))
    theirs = block.attn(x_BTD, None, None)
    print("by hand and the model differ by at most", f"{(y_BTD - theirs).abs().max():.1e}")

# %% [markdown]
# ## Weights in a class
#
# For the exercise you need one thing more of PyTorch: a `nn.Module` is a class that holds weights. What you assign to `self` in `__init__` (a
# `nn.Linear`, a `nn.Parameter`, another module) is found by name, trained, and saved; `forward` says what happens when it is called.


# %%
class Twice(torch.nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(size, size)  # y = x @ weight.T + bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.inner(x))


twice = Twice(4)
print(
    {name: tuple(parameter.shape) for name, parameter in twice.named_parameters()}, tuple(twice(torch.ones(2, 4)).shape)
)

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 3`: the mask, attention, and several heads at once. The checks know the usual mistakes by name.
#
# Then, here:
#
# 1. Remove the mask in `by_hand` and compare row 0 of the result. Who benefits from seeing the future, and why is such a model useless
#    for writing?
# 2. Draw the heads for a text in which a rare name comes twice. Does a head of the second block find the place behind its first
#    occurrence? (Olsson et al. 2022 call these induction heads.)
# 3. `wikigpt runs inspect` and the studio's page *Inside* draw the same for any run of yours. Look at a modern model.
