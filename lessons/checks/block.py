"""What my_gpt/block.py must do."""

import torch
import torch.nn.functional as F

from wikigpt.config import ModelConfig
from wikigpt.learn.expect import check, expect, same, same_weights
from wikigpt.transformer import FeedForward, TransformerBlock

CONFIG = ModelConfig(vocab_size=50, context_length=8, emb_dim=12, n_heads=3, n_layers=1, drop_rate=0.0, qkv_bias=True)


@check(
    "LayerNorm: mean 0, deviation 1",
    "mean and variance are of the last axis: x.mean(-1, keepdim=True).",
    "centred = x - mean; variance = centred.pow(2).mean(-1, keepdim=True); x.var() divides by one less, unless unbiased=False.",
    "The small number goes under the root: centred / (variance + 1e-5).sqrt(). Then * self.weight + self.bias.",
)
def norm(mine):
    x = torch.randn(2, 3, 12) * 3 + 1
    own, theirs = mine.LayerNorm(12), torch.nn.LayerNorm(12)
    same_weights(own, theirs, 0.5)
    w, b = theirs.weight, theirs.bias
    centred, variance = x - x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    mistakes = {
        "the variance divides by n - 1, and should by n: x.var(..., unbiased=False)": centred
        / (x.var(-1, keepdim=True) + 1e-5).sqrt()
        * w
        + b,
        "it was divided by the variance, and should be by its root": centred / (variance + 1e-5) * w + b,
        "the mean is not taken away": x / (variance + 1e-5).sqrt() * w + b,
        "weight and bias are not used": centred / (variance + 1e-5).sqrt(),
        "weight is not used": centred / (variance + 1e-5).sqrt() + b,
        "mean and deviation are over time; each vector (the last axis) has its own": (x - x.mean(1, keepdim=True))
        / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        * w
        + b,
        "bias is not used": centred / (variance + 1e-5).sqrt() * w,
        "mean and deviation are of the whole tensor; each vector (the last axis) has its own": (x - x.mean())
        / (x.var(unbiased=False) + 1e-5).sqrt()
        * w
        + b,
    }
    same(own(x), theirs(x), "LayerNorm(12)(x)", mistakes)
    fresh = mine.LayerNorm(4)
    same(fresh.weight.detach(), torch.ones(4), "weight at first")
    same(fresh.bias.detach(), torch.zeros(4), "bias at first")
    small = torch.tensor([[1e-3, -1e-3, 1e-3, -1e-3]])
    same(
        fresh(small),
        F.layer_norm(small, (4,)),
        "LayerNorm of very small numbers: 0.00001 goes under the root; the result",
    )


@check(
    "gelu",
    "Write it down as it stands in the docstring; torch.tanh takes tensors, math.sqrt numbers.",
    "x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))",
)
def gelu(mine):
    x = torch.linspace(-4, 4, 17)
    mistakes = {"this is relu": F.relu(x), "this is silu": F.silu(x)}
    mistakes["this is the exact gelu; the docstring has the one with tanh, which GPT-2 uses"] = F.gelu(x)
    same(mine.gelu(x), F.gelu(x, approximate="tanh"), "gelu(x)", mistakes, close=1e-5)


@check(
    "FeedForward: wider, a bend, and back",
    "self.up = nn.Linear(D, 4 * D), self.down = nn.Linear(4 * D, D).",
    "down(gelu(up(x)))",
)
def feed_forward(mine):
    own, theirs = mine.FeedForward(CONFIG), FeedForward(CONFIG)
    same_weights(own, theirs, 0.5)
    x = torch.randn(2, 5, 12)
    mistakes = {
        "gelu is missing: two linear layers in a row are no more than one": theirs.down(theirs.up(x)),
        "gelu comes between up and down, not after them": F.gelu(theirs.down(theirs.up(x)), approximate="tanh"),
    }
    same(own(x), theirs(x), "FeedForward(config)(x)", mistakes)


@check(
    "TransformerBlock: the same numbers as wikigpt's with the same weights",
    "Its parts are called norm1, attn, norm2 and ff.",
    "x = x + attn(norm1(x)): attention reads the normalised copy, its answer is added to x itself.",
    "Then the same with norm2 and ff, on the x that attention has changed.",
)
def block(mine):
    own, theirs = mine.TransformerBlock(CONFIG), TransformerBlock(CONFIG, 0)
    same_weights(own, theirs, 0.5)
    x = torch.randn(2, 5, 12)

    def attn(x):
        return theirs.attn(x, None, None)

    found = own.attn(x)
    expect(
        isinstance(found, torch.Tensor) and torch.allclose(found, attn(x), atol=1e-4),
        "its attention, from my_gpt/attention.py, differs from wikigpt's: see `wikigpt learn check 3`.",
    )
    after = x + attn(theirs.norm1(x))
    post = theirs.norm1(x + attn(x))
    mistakes = {
        "the residual connection around attention is missing": attn(theirs.norm1(x))
        + theirs.ff(theirs.norm2(attn(theirs.norm1(x)))),
        "the residual connection around the feed-forward is missing": theirs.ff(theirs.norm2(after)),
        "both residual connections are missing": theirs.ff(theirs.norm2(attn(theirs.norm1(x)))),
        "the feed-forward should read what attention has added to, not x as it came": after
        + theirs.ff(theirs.norm2(x)),
        "the norms stand after the sums, as in the first transformers; here each stands before attention and feed-forward": (
            theirs.norm2(post + theirs.ff(post))
        ),
        "the norms are missing": x + attn(x) + theirs.ff(x + attn(x)),
        "norm2 is not used: the feed-forward reads a normalised copy too": after + theirs.ff(after),
        "the feed-forward comes before attention": (x + theirs.ff(theirs.norm2(x)))
        + attn(theirs.norm1(x + theirs.ff(theirs.norm2(x)))),
        "norm1 is used twice": after + theirs.ff(theirs.norm1(after)),
        "the normalised copy was added, and x itself should be": theirs.norm1(x)
        + attn(theirs.norm1(x))
        + theirs.ff(theirs.norm2(theirs.norm1(x) + attn(theirs.norm1(x)))),
    }
    given = x.clone()
    got = own(given)
    expect(torch.equal(given, x), "it changes the tensor that it is given: x = x + ..., not x += ...")
    same(got, theirs(x, None, None), "TransformerBlock(config)(x)", mistakes)
