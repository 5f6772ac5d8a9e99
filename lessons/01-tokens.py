# %% [markdown]
# # Chapter 1: Tokens
#
# A model does not read letters. It reads **tokens**: pieces of text that a tokenizer cuts, each with a number. This chapter goes
# from an article to bytes to tokens.
#
# After this chapter you can
#
# - explain byte-pair encoding, and write it;
# - say what a larger vocabulary buys and what it costs;
# - say why one pattern does not fit all languages.

# %%
from itertools import islice

import matplotlib.pyplot as plt
import regex

from wikigpt.data.article import document
from wikigpt.data.sources import sample as sample_source
from wikigpt.learn.lesson import begin, few, picture
from wikigpt.tokenizer import gpt2, train_bpe
from wikigpt.tokenizer_json import GPT2_PATTERN, PATTERN

begin()

# %% [markdown]
# ## From an article to bytes
#
# An article becomes a document: its title as a heading, then its text. In UTF-8 a character takes one to four bytes: one for
# English letters, two for é and я, three for most of the world's other scripts.

# %%
articles = list(islice(sample_source("en"), few(100_000, 400)))
texts = [document(article) for article in articles if hasattr(article, "text")]
first = next(text for text in texts if len(text) > 300)
print(first[:300], "...")
for word in ("Moon", "café", "луна", "चाँद", "月"):
    print(f"{word}: {len(word)} characters, {len(word.encode())} bytes: {list(word.encode())}")

# %% [markdown]
# One could stop here: 256 tokens, one for each byte. But then a window of 256 tokens shows the model only forty words. Byte-pair
# encoding (BPE) makes new tokens out of the pairs that come most often: the most frequent pair of bytes becomes one token, then the most
# frequent pair of what there is now, and so on.
#
# **Predict** the first five merges for English. Which two characters stand side by side most often?

# %%
tokenizer = train_bpe(texts, few(2048, 600))
by_rank = [token for token, _ in sorted(tokenizer.ranks.items(), key=lambda item: item[1])]
print("first merges:", [token.decode(errors="replace") for token in by_rank[256:276]])
print("last merges: ", [token.decode(errors="replace") for token in by_rank[-20:]])

# %% [markdown]
# The first are short words and endings, many with the space in front (a space belongs to the word that it opens); the last are whole words
# that an encyclopedia likes, and pieces of others that had a part left over. No one told it what a word is.
#
# ## What a vocabulary buys
#
# More tokens mean fewer of them per text, so the model sees further and works less per word. But each token is a row in the model's
# embedding and a score in every answer.
#
# **Predict**: from 512 tokens to 4,096, by how much does the number of bytes per token grow? Twice? Eight times?

# %%
held_out = "\n".join(texts[-few(500, 50) :])
sizes = [257, 512, 1024, 2048, 4096, 8192] if few(1, 0) else [257, 512, 600]
tokenizers = {size: train_bpe(texts[: -few(500, 50)], size) for size in sizes}
per_token = [len(held_out.encode()) / len(tokenizers[size].encode(held_out)) for size in sizes]
for size, value in zip(sizes, per_token, strict=True):
    print(f"{size:>6} tokens: {value:.2f} bytes per token; an embedding of 128 numbers each has {size * 128:>9,}")
example = "The Moon orbits the Earth."
for size, trained in tokenizers.items():
    print(f"{size:>6}:", "|".join(trained.decode([i]) for i in trained.encode(example)))

figure, ax = plt.subplots(figsize=(6, 3.6))
ax.semilogx(sizes, per_token, "o-", base=2)
ax.set(
    xlabel="tokens in the vocabulary",
    ylabel="bytes of text per token",
    title="Each doubling buys less than the one before",
)
ax.grid(alpha=0.3)
picture(figure, "01-vocabulary")

# %% [markdown]
# Eight times the vocabulary does not even double the bytes per token: frequent words are merged first, and rare ones are rare. Since
# losses are per token, models with different tokenizers cannot be compared by their loss. **Bits per byte** can: chapter 2 has it.
#
# ## Why Hindi needs another pattern
#
# Before any merging, a pattern cuts the text into pieces (words, numbers, punctuation), and no merge crosses a cut. GPT-2's
# pattern says that a word is a row of letters, `\p{L}`. In Hindi, a vowel after a consonant is no letter to Unicode but a **mark**.
#
# **Predict**: into how many pieces does GPT-2's pattern cut these six words?

# %%
hindi = "चाँद पृथ्वी का एकमात्र प्राकृतिक उपग्रह"
for name, pattern in (("GPT-2's", GPT2_PATTERN), ("ours", PATTERN)):
    pieces = regex.findall(pattern, hindi)
    print(f"{name:>8}: {len(pieces):>2} pieces: {'|'.join(pieces)}")
print("GPT-2 tokens:", len(gpt2().encode(hindi)), "for", len(hindi), "characters")

# %% [markdown]
# It cuts every word at its vowel signs, so no token can hold a Hindi word that has one, and most have, however much Hindi the tokenizer is trained
# on. `wikigpt prepare` therefore keeps marks with their letters: `[\p{L}\p{M}]+`. The same holds for Tamil, Bengali, Thai and Arabic with its
# vowels written.
#
# ## What must never happen
#
# After each article comes a special token, *end of text*, that tells the model to forget what was before. If an article could write that
# token, it could cut itself in two. So text never yields a special id:

# %%
ids = tokenizer.encode("A page about <|endoftext|> is a page like others.")
print("end of text is", tokenizer.end_of_text, "; in these ids:", tokenizer.end_of_text in ids.tolist())

# %% [markdown]
# ## Exercises
#
# Write your own: `wikigpt learn start 1` gives you `my_gpt/tokens.py`: count pairs, merge them, train, encode, decode. At the end your
# `encode` gives the same ids as the package's. (`wikigpt learn check 1`, `wikigpt learn hint 1`.)
#
# Then, here:
#
# 1. Train a BPE on the Spanish sample (`sample_source("es")`) and encode English with it. How many bytes per token does that cost?
# 2. What do `tokenizer.encode("1234567")` and `gpt2().encode("1234567")` give? Why might that matter for arithmetic?
# 3. Take your favourite article, and count how many of the 2,048 tokens it never uses.
