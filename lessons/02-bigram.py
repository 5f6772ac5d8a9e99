# %% [markdown]
# # Chapter 2: A bigram model
#
# Before you train a network, know what it has to beat. A **bigram** looks at one token and says, from counting, what comes next.
# It is about the best that anything can do that sees a single token; whatever a GPT does far better, it does by looking further back.
#
# After this chapter you can
#
# - say what the loss is: nats per token, and bits per byte;
# - say why an untrained model's loss is ln V;
# - build the loss to beat by counting, and once more by gradient descent.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from wikigpt.evaluate import bigram_score
from wikigpt.learn.lesson import begin, few, picture, sample
from wikigpt.tokenizer import load

begin()
torch.manual_seed(0)
data = sample()
tokenizer = load(data.path / "tokenizer")
V = data.vocab_size
train_N, validation_N = (
    torch.from_numpy(data.stream(split).read(0, few(10**7, 40_000))) for split in ("train", "validation")
)
print(f"{len(train_N):,} training tokens, {len(validation_N):,} validation tokens, V = {V:,}")

# %% [markdown]
# ## What the loss means
#
# A model gives every token a probability; the loss is the mean of -ln p of the tokens that really came. If it was sure and right, p
# is near 1 and the loss near 0. If it was surprised, p is small and the loss large.
#
# **Predict**: a model that knows nothing gives each of the V tokens the same probability. What is its loss?

# %%
print(f"-ln(1/V) = ln V = {math.log(V):.3f} nats per token")

# %% [markdown]
# ln V. Every training run of this course begins there, and if one does not, something is broken. And **perplexity**, e to the power
# of the loss, says between how many equally likely tokens it hesitates: V at the beginning.
#
# To compare models whatever their tokens, divide by the bytes: **bits per byte** = loss / ln 2 x tokens / bytes.

# %%
bytes_per_token = float(tokenizer.token_bytes[validation_N.numpy()].sum()) / len(validation_N)


def bits_per_byte(nats_per_token: float) -> float:
    return nats_per_token / math.log(2) / bytes_per_token


print(f"{bytes_per_token:.2f} bytes per token: knowing nothing costs {bits_per_byte(math.log(V)):.2f} bits per byte")

# %% [markdown]
# ## Counting
#
# Unigram first: how frequent each token is, whatever came before. Then the bigram: a table of V x V, one row for each token
# before.

# %%
unigram_V = torch.bincount(train_N, minlength=V).float() + 1
unigram = float(-(unigram_V / unigram_V.sum()).log()[validation_N[1:]].mean())
counts_VV = torch.bincount(train_N[:-1] * V + train_N[1:], minlength=V * V).view(V, V).float()
print(f"unigram: {unigram:.3f} nats per token, {bits_per_byte(unigram):.3f} bits per byte")
print(f"of {V * V:,} pairs, {float((counts_VV > 0).float().mean()):.1%} were ever seen")

# %% [markdown]
# Nearly all pairs were never seen. A model that gives them probability 0 has an infinite loss at the first one that it meets. So
# something is added to each count.
#
# **Predict**: what is better to add, 1 to each pair, or 0.01?

# %%
extras = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
losses = []
for extra in extras:
    rows_V = counts_VV.sum(1) + extra * V
    p_N = (counts_VV[validation_N[:-1], validation_N[1:]] + extra) / rows_V[validation_N[:-1]]
    losses.append(float(-p_N.log().mean()))
    print(f"adding {extra:<5}: {losses[-1]:.3f} nats per token")
best = extras[losses.index(min(losses))]

# %% [markdown]
# Adding 1 to two thousand pairs in a row adds two thousand occurrences that never were, to a row that may have seen fifty. The best
# amount is small. Statisticians have better ways than adding; the package's bigram uses one of the best (Kneser-Ney), and is *the* loss
# to beat in every report:

# %%
kneser_ney = bigram_score(data, "validation", tokenizer.token_bytes, len(validation_N))
print(
    f"bigram, adding {best}: {min(losses):.3f} nats; Kneser-Ney: {kneser_ney.loss:.3f} nats, {kneser_ney.bits_per_byte:.3f} bits per byte"
)

# %% [markdown]
# ## The table, looked at
#
# The forty most frequent tokens: each row says what comes after the token at its left.
#
# **Predict**: which rows will have one bright spot, and which will be grey all along?

# %%
top = unigram_V.topk(40).indices
shown = [tokenizer.decode([int(i)]).replace(" ", "·").replace("\n", "¶") for i in top]
rows = counts_VV[top] / counts_VV[top].sum(1, keepdim=True).clamp(min=1)
figure, ax = plt.subplots(figsize=(8, 7.4))
ax.imshow(rows[:, top].sqrt().numpy(), cmap="magma")
ax.set_xticks(range(40), shown, rotation=90, fontsize=7)
ax.set_yticks(range(40), shown, fontsize=7)
ax.set(xlabel="the next token", ylabel="the token before", title="What comes after what (brighter: likelier)")
picture(figure, "02-bigram")

# %% [markdown]
# ## The same by gradient descent
#
# Now a model that *learns* the table: V x V numbers, scores that softmax makes probabilities of. Nobody counts; the loss is followed
# downhill, as in chapter 0.
#
# **Predict**: can it get below the loss that counting gave? Far below?

# %%
STEPS = few(300, 4)
table_VV = torch.zeros(V, V, requires_grad=True)
optimizer = torch.optim.Adam([table_VV], lr=0.1)
curve = []
for step in range(STEPS):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * (1 - step / STEPS)
    at = torch.randint(0, len(train_N) - 1, (8192,))
    loss = F.cross_entropy(table_VV[train_N[at]], train_N[at + 1])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        with torch.no_grad():
            learned = float(F.cross_entropy(table_VV[validation_N[:-1]], validation_N[1:]))
        curve.append((step, learned))
print(f"learned: {learned:.3f} nats; counted: {min(losses):.3f}; knowing nothing: {math.log(V):.3f}")

figure, ax = plt.subplots(figsize=(7, 3.8))
ax.plot(*zip(*curve, strict=True), "o-", markersize=3, label="learned, validation")
for name, value, colour in (
    ("knowing nothing: ln V", math.log(V), "grey"), ("unigram", unigram, "tab:red"),
    ("bigram, counted", min(losses), "tab:orange"), ("bigram, Kneser-Ney", kneser_ney.loss, "tab:green"),
):  # fmt: skip
    ax.axhline(value, color=colour, linestyle="--", label=f"{name}: {value:.2f}")
ax.set(xlabel="step", ylabel="nats per token", title="A learned bigram comes down to where counting is already")
ax.legend(fontsize=8)
picture(figure, "02-learned")

# %% [markdown]
# It begins at ln V and comes down towards what counting knew at once; with more steps it comes nearer, and never far below: it sees the
# same single token. Every curve of this course has that line, and the question is always how far below it a model gets.
#
# What does a bigram write?

# %%
generator = torch.Generator().manual_seed(1)
probabilities_VV = (counts_VV + 1e-4) / (counts_VV + 1e-4).sum(1, keepdim=True)
ids = tokenizer.encode("# The Moon\n\nThe").tolist()
for _ in range(60):
    ids.append(int(torch.multinomial(probabilities_VV[ids[-1]], 1, generator=generator)))
print(tokenizer.decode(ids))

# %% [markdown]
# Every pair of neighbours is fine, and the whole is nonsense. To do better, a token must see further back than one. That is
# attention.

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 2`: count, smooth, score, write.
#
# Then, here:
#
# 1. Score the **training** text with the counted bigram, adding almost nothing. It is lower than on validation: by how much, and why?
# 2. A trigram looks at two tokens. Count how many of the triples in the validation text were ever seen in training. What does that say
#    about counting further?
# 3. Turn the loss into perplexity. Between how many tokens does the bigram hesitate?
