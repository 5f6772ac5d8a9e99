# %% [markdown]
# # Chapter 7: Wikipedia as data
#
# A model is what it read. Before a dump of Wikipedia is fit to be read, most of it has to go, and one thing has to be done right that
# many get wrong: what is kept for validation must never be trained on. At the end of this chapter you reproduce the classic mistake,
# and measure what it does.
#
# After this chapter you can
#
# - say what is in a dump, and what cleaning does with it;
# - split articles so that a split stays the same for ever;
# - find a leak, and say why nobody noticed.

# %%
import random
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import torch

from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings
from wikigpt.data.article import split_of
from wikigpt.data.dump import Page, pages
from wikigpt.data.loader import evaluation_batches
from wikigpt.data.pages import why_no_article
from wikigpt.data.sources import EXCERPT, EXCERPT_PACKAGE, EXCERPT_VERSION, carried
from wikigpt.data.wikitext import clean_wikitext
from wikigpt.data.wikitext.site import site_of
from wikigpt.learn.lesson import begin, few, picture, sample
from wikigpt.optim import make_optimizer, set_rates
from wikigpt.transformer import GPTModel

begin()

# %% [markdown]
# ## What is in a dump
#
# A piece of a real dump of English Wikipedia lies in a package that we install (206 pages).
#
# **Predict**: how many of its pages are articles?

# %%
dump = carried(EXCERPT_PACKAGE, EXCERPT_VERSION, EXCERPT)
site = site_of("enwiki")
found = [page for _, page in islice(pages(dump), few(1000, 40)) if isinstance(page, Page)]
kinds: dict[str, int] = {}
for page in found:
    kind = why_no_article(page, site) or "article"
    kinds[kind] = kinds.get(kind, 0) + 1
print(kinds)

# %% [markdown]
# Half of the pages only point to another page. The rest is wikitext: this is how an article begins, and what remains of it.
#
# **Predict**: what share of an article's characters is left after cleaning?

# %%
articles = [page for page in found if why_no_article(page, site) is None][: few(60, 3)]
page = next(page for page in articles if len(page.text) > 20_000)
print(page.text[:700], "\n\n--- becomes ---\n")
print(clean_wikitext(page.text, page.title, site)[:500])

# %%
shares = [len(clean_wikitext(page.text, page.title, site)) / len(page.text) for page in articles]
figure, ax = plt.subplots(figsize=(6.5, 3.2))
ax.hist(shares, bins=25, range=(0, 1))
ax.set(
    xlabel="share of the characters that is left",
    ylabel="articles",
    title=f"The median article keeps {np.median(shares):.0%}",
)
picture(figure, "07-cleaning")

# %% [markdown]
# References, navigation, pictures, and the code of tables and templates go; what a reader reads stays, tables and formulas too. A
# cleaner that is careless leaves `thumb|right|` in every article, and a model learns to write it.
#
# After that come the filters: what was left out of the sample, and why?

# %%
data = sample()
print(data.manifest["dropped"])

# %% [markdown]
# ## A split that stays
#
# Next month there is a new dump, with new articles. A split could be drawn from the list of all articles by chance; or each article could be asked
# for itself.
#
# **Predict**: 10,000 articles, 5% for validation, drawn from the list with a fixed seed. Then 1% new articles come, and it is drawn again with the same
# seed. How many of the old validation articles are now trained on?


# %%
def by_list(keys: list[str]) -> set[str]:
    shuffled = list(keys)
    random.Random(1).shuffle(shuffled)
    return set(shuffled[: len(keys) // 20])


def by_key(keys: list[str]) -> set[str]:
    return {key for key in keys if split_of(key, 0.05) == "validation"}


old = [f"enwiki|{number}" for number in range(10_000)]
new = old[:5_000] + [f"enwiki|{number}" for number in range(50_000, 50_100)] + old[5_000:]
for name, split in (("drawn from the list", by_list), ("by the key of each article", by_key)):
    before, after = split(old), split(new)
    print(
        f"{name}: {len(before)} validation articles, of which {len(before - after) / len(before):.0%} are trained on afterwards"
    )

# %% [markdown]
# A draw from the list depends on the whole list: with another length everything moves. A split by key looks at one article alone: a hash of its page id says where it belongs, for ever, on every machine, in every dump.
#
# ## The classic leak
#
# Here is a mistake that the course from which this project grew made, and it was not alone. The text is cut into windows that **overlap** (a new one begins every 32 tokens); the list is
# **shuffled**; nine tenths are for training, one tenth for validation. It looks clean: no window is in both lists.
#
# **Predict**: how many of the validation windows share tokens with a training window?

# %%
CONTEXT, STRIDE = 128, 32
text = torch.from_numpy(data.stream("train").read(0, few(60_000, 4_000)))
starts = list(range(0, len(text) - CONTEXT - 1, STRIDE))
random.Random(0).shuffle(starts)
cut = len(starts) * 9 // 10
training, leaky = starts[:cut], starts[cut:]
trained_on = set()
for start in training:
    trained_on.update(range(start, start + CONTEXT + 1))
touched = [sum(place in trained_on for place in range(s, s + CONTEXT)) / CONTEXT for s in leaky]
print(f"windows in both lists: {len(set(training) & set(leaky))}")
print(f"validation windows that share tokens with training: {sum(share > 0 for share in touched) / len(leaky):.1%}")
print(f"validation tokens that were trained on: {sum(touched) / len(leaky):.1%}")

# %% [markdown]
# All of them. Now train, and look at both: the validation windows of that list, and windows of articles that were held out.
#
# **Predict** two curves: what does each of them do after the first few epochs?


# %%
def batch_of(starts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.stack([text[start : start + CONTEXT + 1] for start in starts])
    return rows[:, :-1], rows[:, 1:]


torch.manual_seed(0)
config = ModelConfig(**{**MODEL_CONFIGS["tiny"], "vocab_size": data.vocab_size})
model = GPTModel(config)
settings = TrainingSettings(**{**TRAINING_SETTINGS["small_models"], "batch_size": few(16, 2)})
STEPS = few(450, 4)
optimizer = make_optimizer(model, settings)
honest = list(evaluation_batches(data, "validation", CONTEXT, 32, max_tokens=few(8192, 256)))
curves: dict[str, list[float]] = {"training": [], "validation, leaked": [], "validation, held-out articles": []}
at = []
for step in range(STEPS):
    set_rates(optimizer, step, STEPS, settings)
    first = step * settings.batch_size % (len(training) - settings.batch_size)
    loss = model.loss(*batch_of(training[first : first + settings.batch_size]))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if step % few(30, 2) == 0 or step == STEPS - 1:
        with torch.no_grad():
            at.append(step * settings.batch_size / len(training))
            curves["training"].append(loss.item())
            curves["validation, leaked"].append(float(model.loss(*batch_of(leaky[:64]))))
            total = sum(float(model.loss(b.inputs_BT, b.targets_BT, reduction="sum")) for b in honest)
            tokens = sum(b.targets_BT.numel() for b in honest)
            curves["validation, held-out articles"].append(total / tokens)

figure, ax = plt.subplots(figsize=(7, 4))
for name, curve in curves.items():
    ax.plot(at, curve, "o-", markersize=3, label=f"{name}: {curve[-1]:.2f} at the end, {min(curve):.2f} at best")
    print(f"{name:>30}: {curve[-1]:.3f} at the end, {min(curve):.3f} at best")
ax.set(
    xlabel="times that the list was read",
    ylabel="nats per token",
    title="The same model, two validation losses",
    ylim=(0, 8),
)
ax.legend(loc="center right", fontsize=8)
picture(figure, "07-leak")

# %% [markdown]
# One model, one moment, two figures, and the gap between them is pure self-deception. The leaked curve follows the training loss and says that all is well, and that
# more epochs would be better still. The honest one says that the model got worse for most of the run. Whoever looks at the leaked one
# publishes the wrong model.
#
# So `wikigpt prepare` splits **articles** by key, before anything is cut into windows; drops exact duplicates; and cuts windows that do not overlap.
# `wikigpt evaluate` leaves out what a run was trained on, even through another data folder.

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 7`: a little cleaning, the split, the windows, their order, and a detector of leaks.
#
# Then, here:
#
# 1. Set STRIDE to CONTEXT: the windows do not overlap any more. Is validation from that list honest now? (Think of an article of 3,000 tokens.)
# 2. Two articles may share a paragraph. Look for validation sentences that occur in the training text word for word.
# 3. In `lessons/out/`, `wikigpt data show Anarchism` prints an article as text and tokens, and `wikigpt data stats` what was left out. Where would you look for
#    articles that are not worth reading?
