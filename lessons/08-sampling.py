# %% [markdown]
# # Chapter 8: Sampling, and the KV cache
#
# A trained model gives scores. Text comes from choosing: the same model repeats itself, writes well or writes nonsense, depending on how the next token is
# drawn. The second half of the chapter is about speed: how to write a thousand tokens without reading the text a thousand times.
#
# After this chapter you can
#
# - write temperature, top-k and top-p, and say what each is for;
# - say why the likeliest token, always, ends in a circle;
# - explain the KV cache, and what it costs.

# %%
import time

import matplotlib.pyplot as plt
import torch

from wikigpt.generate import (
    Sampling,
    generate_ids,
    generate_text,
    keep_top_k,
    keep_top_p,
    load_model,
    prompt_ids,
    with_temperature,
)
from wikigpt.learn.lesson import begin, few, first_run, picture
from wikigpt.transformer import KVCache

begin()
model, tokenizer = load_model(first_run(), "cpu")

# %% [markdown]
# ## What comes next?
#
# The scores after a beginning, as probabilities, and what three settings do with them.
#
# **Predict**: the model has 2,048 tokens to choose from. How many of them share 90% of the probability?

# %%
prompt = "# Ocean\n\nThe ocean is the"
with torch.no_grad():
    logits_V = model.next_logits(torch.tensor([prompt_ids(tokenizer, prompt)]))[0]
ordered, ids = logits_V.softmax(-1).sort(descending=True)
print(
    "likeliest:",
    ", ".join(f"{tokenizer.decode([int(i)])!r} {p:.3f}" for p, i in zip(ordered[:10], ids[:10], strict=True)),
)
print("tokens that share 90%:", int((ordered.cumsum(0) < 0.9).sum()) + 1)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), sharey=True)
for t in (0.3, 0.8, 1.0, 1.5):
    axes[0].semilogy(
        with_temperature(logits_V, t).softmax(-1).sort(descending=True).values[:200], label=f"temperature {t}"
    )
for k in (10, 50):
    axes[1].semilogy(
        keep_top_k(logits_V, k).softmax(-1).sort(descending=True).values[:200].clamp(min=1e-9), label=f"top-k {k}"
    )
for p in (0.5, 0.9):
    axes[2].semilogy(
        keep_top_p(logits_V, p).softmax(-1).sort(descending=True).values[:200].clamp(min=1e-9), label=f"top-p {p}"
    )
for ax in axes:
    ax.semilogy(ordered[:200], color="grey", linewidth=1, linestyle="--", label="as the model says")
    ax.set(xlabel="token, by rank", ylim=(1e-6, 1))
    ax.legend(fontsize=8)
axes[0].set_ylabel("probability")
picture(figure, "08-next")

# %% [markdown]
# **Temperature** divides the scores: below 1 the likely becomes likelier, above 1 everything comes closer together. **Top-k** keeps the k
# likeliest. **Top-p** keeps as many as it takes to have the share p: few where the model is sure, many where it is not. They cut off the long
# tail: two thousand tokens with a tiny probability each are, together, not tiny, and one of them spoils a sentence.
#
# ## Why greedy repeats
#
# Temperature 0 takes the likeliest token always. What has been said twice is likely to be said again: heads of the second block look for earlier
# places like this one (chapter 3) and copy what followed. Nothing stops it.
#
# **Predict**: of all rows of four tokens in a text of 200, what share has occurred before in the same text? At temperature 0? At 1?


# %%
def repeated(ids: list[int], n: int = 4) -> float:
    rows = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(rows)) / len(rows) if rows else 0.0


temperatures = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3]
means = []
for t in temperatures:
    texts = [
        list(generate_ids(model, prompt_ids(tokenizer, f"# {title}\n\n"), -1, Sampling(few(200, 8), t, seed=seed)))
        for seed, title in enumerate(("Moon", "Portugal", "Honey bee")[: few(3, 1)])
    ]
    means.append(sum(map(repeated, texts)) / len(texts))
    print(f"temperature {t}: {means[-1]:4.0%} repeated. {tokenizer.decode(texts[0][:22])!r}")

figure, ax = plt.subplots(figsize=(6.5, 3.4))
ax.plot(temperatures, means, "o-")
ax.set(
    xlabel="temperature",
    ylabel="rows of 4 that came before",
    title="The likeliest token, always, goes round in circles",
    ylim=(0, 1),
)
picture(figure, "08-repeats")

# %% [markdown]
# Near 0 it circles; towards 1 the circles open; above 1 words fall apart. Around 0.7 to 0.9, with top-k or top-p, is where most people stay.

# %%
for label, sampling in (
    ("temperature 0", Sampling(few(50, 3), 0.0)),
    ("temperature 0.8, top-k 50", Sampling(few(50, 3), 0.8, 50, seed=2)),
    ("temperature 1.5", Sampling(few(50, 3), 1.5, seed=2)),
):
    print(f"{label}: {''.join(generate_text(model, tokenizer, '# Volcano', sampling))!r}\n")

# %% [markdown]
# ## The KV cache
#
# To write token 101, the model reads tokens 1 to 100 again, though nothing about them has changed: no position sees a later one, so
# their keys and values are what they were. A **cache** keeps these, and each new token costs one position.
#
# **Predict**: for 120 tokens, how many positions does the model calculate without the cache, and how many with it? By what factor is it faster?

# %%
sampling = Sampling(max_gen=few(120, 4), temperature=0.8, seed=1)
start_ids = prompt_ids(tokenizer, "# Moon")


def took(use_cache: bool) -> tuple[list[float], list[int]]:
    """Seconds after each token, and the tokens."""
    begun, seconds, ids = time.perf_counter(), [], []
    for token in generate_ids(model, start_ids, -1, sampling, use_cache):
        ids.append(token)
        seconds.append(time.perf_counter() - begun)
    return seconds, ids


took(True)
results = {label: [took(use) for _ in range(few(5, 1))] for label, use in (("without", False), ("with", True))}
figure, ax = plt.subplots(figsize=(6.5, 3.6))
ends = {}
for label, times in results.items():
    middle = sorted((seconds for seconds, _ in times), key=lambda seconds: seconds[-1])[len(times) // 2]
    ends[label] = middle[-1]
    ax.plot(
        range(1, len(middle) + 1), middle, label=f"{label} the cache: {len(middle) / middle[-1]:.0f} tokens a second"
    )
ax.set(xlabel="tokens written", ylabel="seconds", title="A cache: each token costs the same")
ax.legend()
picture(figure, "08-cache")
n, T = sampling.max_gen, len(start_ids)
print(
    f"positions: {sum(range(T, T + n)):,} without, {T + n - 1} with. Seconds: {ends['without']:.3f} and {ends['with']:.3f}"
)
print("the same tokens:", results["with"][0][1] == results["without"][0][1])

# %% [markdown]
# The same tokens, to the last one. The time is not divided by as much as the positions are: on a model as small as this, calling PyTorch takes
# longer than calculating, and many positions at once cost little more than one. The larger the model and the longer the text, the more the cache saves.
#
# It costs memory: two vectors for each position of each layer.

# %%
cache = KVCache(model.config, 1, "cpu", torch.float32)
print(f"this model: {cache.keys.numel() * 2 * 4 / 2**20:.1f} MiB for {model.config.context_length} positions")
print(
    f"GPT-2 XL, 16 bits: {48 * 2 * 1024 * 1600 * 2 / 2**20:.0f} MiB for 1,024 positions: a fifth of it for heads that share keys and values in fives"
)

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 8`: temperature, top-k, top-p, the cache, and the loop that writes.
#
# Then, here:
#
# 1. Write an article with `top_p=0.3` and one with `top_p=0.99`. Which facts do they get wrong?
# 2. Give a penalty to tokens that came already (divide their score by 1.3 where it is positive, multiply where it is negative) at temperature 0. Does that break the circle? What does it break besides?
# 3. Write 300 tokens with a context of 128: where does the window jump, and what does the cache do then? (`window_start` in `wikigpt/generate.py`.)
