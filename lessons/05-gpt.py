# %% [markdown]
# # Chapter 5: The GPT
#
# Embeddings in front, blocks in the middle, a head behind: that is all. In this chapter the pieces of chapters 3 and 4 become a model, **your**
# model, and the weights of a trained run are loaded into it. If every part of it is right, it gives the same answers but for rounding.
#
# After this chapter you can
#
# - count the parameters of any GPT by hand, and say where they are;
# - say what the loss of an untrained model must be, and what it means when it is not;
# - load published weights into code that you wrote.

# %%
import math

import matplotlib.pyplot as plt
import torch

from wikigpt.config import MODEL_CONFIGS, ModelConfig
from wikigpt.data.loader import evaluation_batches
from wikigpt.generate import Sampling, generate_text, load_model
from wikigpt.learn.lesson import begin, few, first_run, mine, picture, sample
from wikigpt.transformer import GPTModel

begin()
torch.manual_seed(0)

# %% [markdown]
# ## Parameters, by hand
#
# | part | numbers |
# |---|---|
# | token embedding | V x D |
# | position embedding | context x D |
# | a block: queries, keys, values; projection | 3D² + 3D; D² + D |
# | a block: feed-forward, up and down | 4D² + 4D; 4D² + D |
# | a block: two norms | 4D |
# | final norm | 2D |
# | output head | 0: it is the token embedding, used backwards |
#
# So a block has about 12 D². GPT-2 has D = 768, 12 blocks, V = 50,257 and a context of 1,024.
#
# **Predict**: how many parameters is that? And which share of them is the token embedding?


# %%
def by_part(c: ModelConfig) -> dict[str, int]:
    D, L = c.emb_dim, c.n_layers
    return {
        "tokens": c.vocab_size * D,
        "positions": c.context_length * D,
        "attention": L * (4 * D * D + 4 * D),
        "feed-forward": L * (8 * D * D + 5 * D),
        "norms": L * 4 * D + 2 * D,
    }


names = ("tiny", "small", "gpt2_original", "gpt2_medium", "gpt2_xl")
figure, ax = plt.subplots(figsize=(8, 3.2))
left = [0.0] * len(names)
for part in by_part(ModelConfig(**MODEL_CONFIGS["tiny"])):
    shares = []
    for name in names:
        config = ModelConfig(**MODEL_CONFIGS[name])
        shares.append(by_part(config)[part] / sum(by_part(config).values()))
    ax.barh(names, shares, left=left, label=part)
    left = [a + b for a, b in zip(left, shares, strict=True)]
ax.set(title="Where the parameters are", xlabel="share", xlim=(0, 1))
ax.legend(ncols=5, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, -0.5))
picture(figure, "05-parameters")
gpt2 = ModelConfig(**MODEL_CONFIGS["gpt2_original"])
print(f"GPT-2 by hand: {sum(by_part(gpt2).values()):,}; the package says {gpt2.n_parameters:,}")
for name in names:
    config = ModelConfig(**MODEL_CONFIGS[name])
    print(
        f"{name:>14}: {config.n_parameters:>13,}, the token embedding is {by_part(config)['tokens'] / config.n_parameters:.0%}"
    )

# %% [markdown]
# 124,439,808. If you see a "GPT-2" of 163 million somewhere, its author has not tied the head to the embedding. In the smallest model
# the embedding is most of it, which is why small models take a small vocabulary.
#
# ## The loss before training
#
# An untrained model knows nothing, so its loss should be ln V. That takes some care: all weights begin small (deviation 0.02), so that all
# logits begin near 0 and all tokens are as likely.
#
# **Predict**: what is the loss if the weights begin with deviation 1 instead?

# %%
data = sample()
config = ModelConfig(**{**MODEL_CONFIGS["tiny"], "vocab_size": data.vocab_size})
batch = next(iter(evaluation_batches(data, "validation", 128, few(8, 1))))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
for ax, std in zip(axes, (0.02, 1.0), strict=True):
    model = GPTModel(config)
    if std != 0.02:
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=std)
    with torch.no_grad():
        loss = float(model.loss(batch.inputs_BT, batch.targets_BT))
        logits = model(batch.inputs_BT[:2]).flatten()
    ax.hist(logits, bins=60, color="tab:blue" if std < 1 else "tab:red")
    ax.set(
        title=f"weights of deviation {std}: loss {loss:.2f} (ln V = {math.log(data.vocab_size):.2f})",
        xlabel="logit",
        yticks=[],
    )
    print(f"deviation {std}: logits of deviation {logits.std():.2f}, loss {loss:.2f}")
picture(figure, "05-first-loss")

# %% [markdown]
# Large weights make large logits: the model is sure of something, at random, and sure and wrong is what the loss punishes hardest. It would spend its
# first hundred steps unlearning that. **A first loss far above ln V means a bad start; far below it means that the model had been trained before.**
#
# ## Your model, trained weights
#
# If you have done chapters 3 to 5, `my_gpt/gpt.py` holds a class `GPT` that you wrote; else the one from the solutions stands in. It has
# the same parameter names as the package's, so that a checkpoint fits.
#
# **Predict**: by how much will its logits differ from the package's? 0.1? 0.0001?

# %%
run = first_run()
theirs, tokenizer = load_model(run, "cpu")
GPT = mine("gpt").GPT
own = GPT(theirs.config)
print(own.load_state_dict(theirs.state_dict()))
own.eval()
with torch.no_grad():
    difference = float((own(batch.inputs_BT) - theirs(batch.inputs_BT)).abs().max())
    logits_BTV = own(batch.inputs_BT)
    loss = float(torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), batch.targets_BT.flatten()))
print(
    f"the logits differ by at most {difference:.1e}; your model's loss is {loss:.3f}, {math.log(data.vocab_size):.2f} before training"
)

# %% [markdown]
# Only rounding. So every part of it is right: one forgotten scale, one norm in the wrong place, and nothing would fit. That is the
# cheapest proof there is that you have understood a model, and it is how the package itself is tested against Hugging Face's GPT-2.
#
# Let it write. (Here the package draws the tokens; chapter 8 does it by hand.)

# %%
print(
    "package:",
    "".join(generate_text(theirs, tokenizer, "# Moon\n\n", Sampling(max_gen=few(60, 3), temperature=0.7, seed=4))),
)
ids = tokenizer.encode("# Moon\n\nThe Moon is").tolist()
with torch.no_grad():
    for _ in range(few(30, 2)):
        ids.append(int(own(torch.tensor([ids]))[0, -1].argmax()))
print("yours, always the likeliest token:", tokenizer.decode(ids))

# %% [markdown]
# The likeliest token, again and again, ends in a circle. Why, and what to do about it, is chapter 8; how the weights came to be what they are
# is chapter 6.

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 5`. When `wikigpt learn check 5` passes, run this chapter again: the model in it is then yours.
#
# Then, here:
#
# 1. Swap `norm1` and `norm2` of one block in `own` and compare the logits again. Then set one bias to 1. How sensitive is the comparison?
# 2. `wikigpt train --init_from gpt2` begins with OpenAI's weights (it needs the network). Load them into your class too.
# 3. How many parameters has `modern_tiny`? Its blocks are other ones: `ModelConfig.n_parameters` has the formula.
