# %% [markdown]
# # Chapter 0: Tensors
#
# Ten minutes to set up, and to meet the three ideas that everything else is made of: a tensor has a **shape**, a product of
# matrices **mixes** rows, and PyTorch can say **which way is down**.
#
# After this chapter you can
#
# - read a shape like `x_BTD` and say what each letter stands for;
# - write a mean, a shift or a choice as one product of matrices;
# - let PyTorch find a derivative, and walk downhill with it.
#
# You need Python, and to have seen a list, a function and a class. If you have not installed anything yet: `make demo` in the folder of
# the repository does, then `source .venv/bin/activate`. Run this file from that folder with `python lessons/00-tensors.py`, cell by cell in an editor that knows `# %%` (VS Code, PyCharm, Spyder), or as a notebook after
# `make notebooks`. Whenever the text says **Predict**, stop and write down your guess before you go on: what you learn is the
# difference between your guess and the answer.

# %%
import matplotlib.pyplot as plt
import torch

from wikigpt.config import MODEL_CONFIGS, ModelConfig
from wikigpt.data.loader import TrainingBatches
from wikigpt.learn.lesson import begin, picture, sample
from wikigpt.tokenizer import load
from wikigpt.transformer import GPTModel

begin()
torch.manual_seed(0)
print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads; NVIDIA card: {torch.cuda.is_available()}")

# %% [markdown]
# ## A text is a row of numbers
#
# A computer keeps a text as bytes, numbers from 0 to 255. A tensor holds numbers in as many axes as you like; its shape says
# how many there are along each.

# %%
text = "The Moon is round."
bytes_T = torch.tensor(list(text.encode()))
print(bytes_T)
print("shape:", tuple(bytes_T.shape), " dtype:", bytes_T.dtype)

# %% [markdown]
# `wikigpt` names its tensors by their axes, and so do these chapters: `bytes_T` has one axis, time (the place in the text).
# The letters are always the same; N stands for a number of things in a row, L for layers, S for positions that are looked at.
#
# | letter | axis |
# |---|---|
# | B | batch: texts that are worked on at once |
# | T | time: the position in the text |
# | D | the numbers that describe one position (`emb_dim`) |
# | H, K | attention heads, and the numbers of one head |
# | V | the vocabulary: all tokens there are |
#
# Here is what a model really gets to see: some windows of Wikipedia, as tokens. (The first time, this prepares the sample of
# Wikipedia that comes with the package, in a few seconds.)

# %%
data = sample()
batch = TrainingBatches(data, context_length=16, batch_size=4, seed=1)[0]
print("inputs_BT ", tuple(batch.inputs_BT.shape))
print("targets_BT", tuple(batch.targets_BT.shape))
tokenizer = load(data.path / "tokenizer")
print("inputs: ", repr(tokenizer.decode(batch.inputs_BT[0].tolist())))
print("targets:", repr(tokenizer.decode(batch.targets_BT[0].tolist())))

# %% [markdown]
# Four windows of sixteen tokens. The targets are the same text one token later: at every position the model should say what
# comes next. That is all that pre-training is.
#
# ## Predict: a product of matrices
#
# `a` has shape (3, 3) and `x` has shape (3, 2), so `a @ x` has shape (3, 2). Each row of the result is a mixture of the rows of
# `x`, and the row of `a` says how much of each.
#
# **Predict**: what is the second row of the result?

# %%
x_TD = torch.tensor([[2.0, 0.0], [4.0, 10.0], [6.0, 20.0]])
a_TT = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]])
print(a_TT @ x_TD)

# %% [markdown]
# Row 1 of `a` takes a half of each of the first two rows, so the answer is their mean, (3, 5). Look at the zeros: row 0 takes
# nothing of what comes after it, row 1 nothing of row 2. A triangle of weights lets every position look **back only**. Attention, in
# chapter 3, is this product with weights that the model chooses for itself.
#
# ## Predict: how many numbers does a model answer with?
#
# Here is a small GPT, not trained yet. It gets (B, T) tokens and gives every token of its vocabulary a score, at every position.
#
# **Predict**: the shape of its answer for the batch above, with a vocabulary of 2,048.

# %%
config = ModelConfig(**{**MODEL_CONFIGS["tiny"], "vocab_size": data.vocab_size})
model = GPTModel(config)
logits_BTV = model(batch.inputs_BT)
print(tuple(logits_BTV.shape), "=", f"{logits_BTV.numel():,} numbers for {batch.inputs_BT.numel()} tokens")

# %% [markdown]
# ## Which way is down
#
# Training means to change numbers so that a loss gets smaller. The derivative says how the loss changes with each number; a tensor
# with `requires_grad=True` remembers what was calculated with it, and `backward()` walks the calculation backwards.
#
# **Predict** the derivative of x² + 3x at x = 2.

# %%
x = torch.tensor(2.0, requires_grad=True)
(x**2 + 3 * x).backward()
print("derivative:", x.grad)

# %% [markdown]
# 2x + 3 = 7. Now downhill: move x against the derivative, a little at a time. How far is the **learning rate**. Below, a valley
# that is five times as steep one way as the other, and three walks of twenty steps from the same place.
#
# **Predict**: which of the rates 0.02, 0.15 and 0.21 ends nearest to the middle?


# %%
def valley(p: torch.Tensor) -> torch.Tensor:
    return p[0] ** 2 + 5 * p[1] ** 2


def walk(rate: float, steps: int = 20) -> list[list[float]]:
    p = torch.tensor([-4.0, 1.5], requires_grad=True)
    path = [p.tolist()]
    for _ in range(steps):
        valley(p).backward()
        with torch.no_grad():
            p -= rate * p.grad
        p.grad = None
        path.append(p.tolist())
    return path


figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True)
side = torch.linspace(-5, 5, 100)
grid = side[None] ** 2 + 5 * side[:, None] ** 2
for ax, rate in zip(axes, (0.02, 0.15, 0.21), strict=True):
    path = walk(rate)
    ax.contourf(side, side, grid, levels=25, cmap="Blues_r")
    ax.plot(*zip(*path, strict=True), "o-", color="tab:orange", markersize=3)
    ax.set(title=f"rate {rate}: ends at a height of {valley(torch.tensor(path[-1])):.3g}", xlim=(-5, 5), ylim=(-5, 5))
picture(figure, "00-downhill")

# %% [markdown]
# Too small, and it has hardly begun; too large, and every step jumps across the valley, a little further each time, and
# it never comes back. In between it arrives. A model of a hundred million numbers walks in just this way, and chapter 6 shows the same
# three pictures as curves of a real training run.

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 0` copies four small functions into `my_gpt/tensors.py`; `wikigpt learn check 0` says
# what is right and what is not, and `wikigpt learn hint 0` helps, one step at a time.
#
# Then, here:
#
# 1. Change `a_TT` so that every row of `a_TT @ x_TD` is the row **before** it, and the first row is zero.
# 2. The steepest direction of the valley bends with 10 (its second derivative). From which rate on does the walk diverge? Try 0.199 and
#    0.201, and explain.
# 3. `model.loss(batch.inputs_BT, batch.targets_BT)` is one number. Call `backward()` on it, and look for the parameter with the longest
#    gradient.
