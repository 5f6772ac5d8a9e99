"""What my_gpt/attention.py must do."""

import math

import torch
import torch.nn.functional as F

from wikigpt.config import ModelConfig
from wikigpt.learn.expect import check, expect, same, same_weights
from wikigpt.transformer import MultiHeadAttention

CONFIG = ModelConfig(vocab_size=50, context_length=8, emb_dim=12, n_heads=3, n_layers=1, drop_rate=0.0, qkv_bias=True)


@check(
    "causal_mask: who may see whom",
    "Row 0 may see only itself: True, False, False, ... The last row may see everything.",
    "Tensor.tril() keeps the lower left triangle with the diagonal.",
    "return torch.ones(T, T, dtype=torch.bool).tril()",
)
def mask(mine):
    right = torch.ones(4, 4, dtype=torch.bool).tril()
    got = mine.causal_mask(4)
    mistakes = {
        "off by one: a position must see itself too, so the diagonal is True": right.tril(-1),
        "off by one: a position must not see the next": torch.ones(4, 4, dtype=torch.bool).tril(1),
        "it is turned around: rows look, columns are looked at, so the lower left is True": right.T,
        "it is inverted: True means that it may be seen": ~right,
    }
    same(got, right, "causal_mask(4)", mistakes)
    expect(got.dtype == torch.bool, f"causal_mask(4) should be of torch.bool and is of {got.dtype}.")


@check(
    "attention: softmax(q kT / sqrt(K)) v",
    "First the scores, (B, H, T, T): q @ k.transpose(-1, -2), divided by the root of the head size K = q.shape[-1].",
    'Then the mask: scores.masked_fill(~causal_mask(T), float("-inf")).',
    "Then softmax over the last axis: each row, one position that looks, adds up to 1. Then @ v.",
)
def attention(mine):
    q, k, v = torch.randn(3, 2, 3, 5, 4).unbind()
    right = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    T, K = q.shape[-2:]
    raw = q @ k.transpose(-1, -2)
    later = torch.ones(T, T, dtype=torch.bool).triu(1)

    def masked(scores, hidden=later, dim=-1):
        return scores.masked_fill(hidden, float("-inf")).softmax(dim) @ v

    zeroed = (raw / math.sqrt(K)).softmax(-1).masked_fill(later, 0.0) @ v
    mistakes = {
        "the scale is missing: divide the scores by the root of K": masked(raw),
        "the scores were divided by K, and should be by its root": masked(raw / K),
        "the scores were multiplied by the root of K, and should be divided": masked(raw * math.sqrt(K)),
        "the mask is turned around: what may not be seen is hidden, so masked_fill(~causal_mask(T), ...)": masked(
            raw / math.sqrt(K), ~later
        ),
        "queries and keys are swapped: rows ask, so q @ k.transpose(-1, -2)": masked(raw.mT / math.sqrt(K)),
        "the scale is the root of T, and should be of K, the size of a head": masked(raw / math.sqrt(T)),
        "nothing is masked: positions see what comes after them": F.scaled_dot_product_attention(q, k, v),
        "the mask is off by one: positions see the next one too": masked(
            raw / math.sqrt(K), torch.ones(T, T, dtype=torch.bool).triu(2)
        ),
        "the mask is off by one: positions do not see themselves": masked(
            raw / math.sqrt(K), torch.ones(T, T, dtype=torch.bool).triu(0)
        ),
        "the softmax is over the wrong axis: the last one is what each position chooses from": masked(
            raw / math.sqrt(K), dim=-2
        ),
        "the softmax is over the wrong axis: it should be the last, not the heads": masked(raw / math.sqrt(K), dim=1),
        "the mask came after the softmax: then what is left no longer adds up to 1. Minus infinity before it": zeroed,
        "softmax is missing": (raw / math.sqrt(K)).masked_fill(later, float("-inf")) @ v,
        "what is hidden got a score of 0, which is a score like others: minus infinity": (raw / math.sqrt(K))
        .masked_fill(later, 0.0)
        .softmax(-1)
        @ v,
    }
    same(mine.attention(q, k, v), right, "attention(q, k, v)", mistakes)


@check(
    "attention does not see the future",
    "Change the last position's key and value: no earlier answer may change.",
)
def future(mine):
    q, k, v = torch.randn(3, 1, 2, 6, 4).unbind()
    before = mine.attention(q, k, v)
    k[:, :, -1], v[:, :, -1] = 9.0, 9.0
    same(mine.attention(q, k, v)[:, :, :-1], before[:, :, :-1], "attention of all but the last, after the last changed")


@check(
    "MultiHeadAttention: the same numbers as wikigpt's with the same weights",
    "self.qkv(x) is (B, T, 3 * D): .chunk(3, dim=-1) makes q, k and v of it, each (B, T, D).",
    "To heads: .unflatten(-1, (n_heads, -1)) is (B, T, H, K), .transpose(1, 2) is (B, H, T, K).",
    "Back: .transpose(1, 2) is (B, T, H, K), .flatten(2) is (B, T, D). Then out_proj.",
)
def heads(mine):
    theirs, own = MultiHeadAttention(CONFIG, 0), mine.MultiHeadAttention(CONFIG)
    same_weights(own, theirs, 0.3)
    x = torch.randn(2, 7, 12)
    right, q_k_v = theirs(x, None, None), theirs.qkv(x).chunk(3, dim=-1)

    def joined(split, back):
        q, k, v = (split(part) for part in q_k_v)
        return theirs.out_proj(back(F.scaled_dot_product_attention(q, k, v, is_causal=True)))

    def heads_of(part):
        return part.unflatten(-1, (3, 4)).transpose(1, 2)

    mistakes = {
        "(B, T, D) was viewed as (B, H, T, K): that mixes positions; unflatten to (B, T, H, K) first, then transpose": joined(
            lambda part: part.reshape(2, 3, 7, 4), lambda y: y.transpose(1, 2).flatten(2)
        ),
        "before flattening, heads must go back behind time: y.transpose(1, 2).flatten(2)": joined(
            heads_of, lambda y: y.reshape(2, 7, 12)
        ),
        "out_proj is missing": F.scaled_dot_product_attention(*(heads_of(part) for part in q_k_v), is_causal=True)
        .transpose(1, 2)
        .flatten(2),
        "it has one head; n_heads should be used": joined(lambda part: part[:, None], lambda y: y[:, 0]),
        "heads are interleaved: head h has the h-th K numbers in a row, so unflatten(-1, (n_heads, -1))": joined(
            lambda part: part.unflatten(-1, (4, 3)).permute(0, 3, 1, 2), lambda y: y.permute(0, 2, 3, 1).flatten(2)
        ),
    }
    for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1)):
        q, k, v = (heads_of(q_k_v[place]) for place in order)
        other = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        mistakes[f"queries, keys and values are in another order{' ' * len(mistakes)}".rstrip()] = theirs.out_proj(
            other
        )
        same(own(x), right, "MultiHeadAttention(config)(x)", mistakes)
    without = ModelConfig(**{**vars(CONFIG), "qkv_bias": False})
    has = [name for name, _ in mine.MultiHeadAttention(without).named_parameters()]
    expect(
        "qkv.bias" not in has,
        "Where config.qkv_bias is False, qkv should have no bias: nn.Linear(..., bias=config.qkv_bias).",
    )
