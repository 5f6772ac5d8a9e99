"""The model: a GPT-2, read top-down. Token ids go in, a score (logit) for every possible next token comes out.

    inputs_BT ──> embeddings ──> n_layers x [ attention, feed-forward ] ──> norm ──> head ──> logits_BTV

Shapes are named by suffix: B batch, T time (position in the text), D emb_dim, H heads, K head size, V vocabulary.
This file needs torch alone, and `GPTModel(config)` takes any object with the attributes of `ModelConfig`, so that it
can be copied into a published model as it is.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; the shape is exactly that of
`GPT2LMHeadModel` in transformers (pre-norm blocks, learned positions, tanh GELU, output head tied to the embedding).
"""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Config(Protocol):
    """What `GPTModel` reads from its configuration. `wikigpt.config.ModelConfig` says what each field means."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def emb_dim(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def drop_rate(self) -> float: ...
    @property
    def qkv_bias(self) -> bool: ...


class KVCache:
    """Keys and values of the tokens already read, so that each new token costs one position and not the whole text.

    The generator owns it and passes it to the model; `length` is how many positions it holds.
    """

    def __init__(self, config: Config, batch_size: int, device: torch.device | str, dtype: torch.dtype) -> None:
        head_size = config.emb_dim // config.n_heads
        shape = (config.n_layers, batch_size, config.n_heads, config.context_length, head_size)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0

    def extend(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one layer's new keys and values and returns all of that layer's, old and new."""
        end = self.length + k_BHTK.shape[2]
        self.keys[layer, :, :, self.length : end] = k_BHTK
        self.values[layer, :, :, self.length : end] = v_BHTK
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


PLAIN_UP_TO = (
    512  # positions; so far PyTorch's fused kernel for CPUs takes two to three times as long (benchmarks/attention.py)
)


def plain_attention(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, dropout: float) -> Tensor:
    """softmax(q kT / sqrt(K)) v, each position seeing itself and all before: attention as its paper writes it (Vaswani
    et al. 2017, equation 1). Equal to `F.scaled_dot_product_attention(..., is_causal=True)`."""
    T, K = q_BHTK.shape[-2:]
    later_TT = torch.full((T, T), float("-inf"), device=q_BHTK.device, dtype=q_BHTK.dtype).triu(1)
    weights_BHTT = torch.softmax((q_BHTK / math.sqrt(K)) @ k_BHTK.transpose(-1, -2) + later_TT, dim=-1)
    return F.dropout(weights_BHTT, dropout) @ v_BHTK


class MultiHeadAttention(nn.Module):
    """Every position looks back at itself and all earlier ones, in several heads at once."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.drop_rate = config.drop_rate
        self.layer = layer
        self.qkv = nn.Linear(config.emb_dim, 3 * config.emb_dim, bias=config.qkv_bias)
        self.out_proj = nn.Linear(config.emb_dim, config.emb_dim)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x_BTD: Tensor, cache: KVCache | None = None) -> Tensor:
        B, T, D = x_BTD.shape
        q_BHTK, k_BHTK, v_BHTK = self.qkv(x_BTD).view(B, T, 3, self.n_heads, D // self.n_heads).permute(2, 0, 3, 1, 4)
        mask = None
        if cache is not None:
            if cache.length > 0 and T > 1:  # several new tokens after old ones: each sees the old ones and its past
                mask = torch.ones(T, cache.length + T, dtype=torch.bool, device=x_BTD.device).tril(cache.length)
            k_BHTK, v_BHTK = cache.extend(self.layer, k_BHTK, v_BHTK)
        causal = T > 1 and mask is None  # a single new token may see everything
        dropout = self.drop_rate if self.training else 0.0
        if causal and x_BTD.device.type == "cpu" and T <= PLAIN_UP_TO:
            y_BHTK = plain_attention(q_BHTK, k_BHTK, v_BHTK, dropout)
        else:
            y_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, mask, dropout, is_causal=causal)
        return self.dropout(self.out_proj(y_BHTK.transpose(1, 2).reshape(B, T, D)))


class FeedForward(nn.Module):
    """Each position thinks for itself: four times wider, a bend, and back."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.emb_dim, 4 * config.emb_dim)
        self.down = nn.Linear(4 * config.emb_dim, config.emb_dim)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.dropout(self.down(F.gelu(self.up(x_BTD), approximate="tanh")))


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy of the stream and adds its answer to it."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.attn = MultiHeadAttention(config, layer)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)

    def forward(self, x_BTD: Tensor, cache: KVCache | None = None) -> Tensor:
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD), cache)
        return x_BTD + self.ff(self.norm2(x_BTD))


class GPTModel(nn.Module):
    """A GPT-2 of any size. Raises ValueError where the configuration or the input cannot be."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.emb_dim % config.n_heads:
            raise ValueError(f"emb_dim {config.emb_dim} cannot be shared out over n_heads {config.n_heads}")
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.emb_dim)
        self.pos_emb = nn.Embedding(config.context_length, config.emb_dim)
        self.drop_emb = nn.Dropout(config.drop_rate)
        self.blocks = nn.ModuleList(TransformerBlock(config, layer) for layer in range(config.n_layers))
        self.final_norm = nn.LayerNorm(config.emb_dim)
        self.initialise()

    def initialise(self) -> None:
        """GPT-2's own start: normal with deviation 0.02; what adds to the residual stream is scaled down by
        sqrt(2 * n_layers), since that many terms add up in it (Radford et al. 2019, section 2.3)."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:  # LayerNorm's weight
                nn.init.ones_(parameter)
            else:
                residual = name.endswith(("attn.out_proj.weight", "ff.down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layers) if residual else 0.02)

    def hidden(self, inputs_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids (B, T) to final hidden states (B, T, D). A cache holds what came before and is extended."""
        past = cache.length if cache is not None else 0
        T = inputs_BT.shape[1]
        if past + T > self.config.context_length:
            raise ValueError(f"{past + T} tokens do not fit in a context of {self.config.context_length}")
        positions_T = torch.arange(past, past + T, device=inputs_BT.device)
        x_BTD = self.drop_emb(self.tok_emb(inputs_BT) + self.pos_emb(positions_T))
        for block in self.blocks:
            x_BTD = block(x_BTD, cache)
        if cache is not None:
            cache.length += T
        return self.final_norm(x_BTD)

    def forward(self, inputs_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids (B, T) to logits (B, T, V)."""
        return self.head(self.hidden(inputs_BT, cache))

    def head(self, hidden: Tensor) -> Tensor:
        """Final hidden states (..., D) to logits (..., V): the token embedding, used backwards."""
        return F.linear(hidden, self.tok_emb.weight)

    def loss(self, inputs_BT: Tensor, targets_BT: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats against the next tokens (B, T); `sum` adds up over all of them, `mean` divides by
        their number. Equal to `F.cross_entropy` on the logits, without ever holding all of them in memory."""
        rows_ND = self.hidden(inputs_BT).flatten(0, 1)
        total = ChunkedCrossEntropy.apply(rows_ND, self.tok_emb.weight, targets_BT.flatten(), torch.is_grad_enabled())
        return total / targets_BT.numel() if reduction == "mean" else total


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy of `rows_ND @ weight_VD.T` against targets_N, 256 rows at a time.

    The logits of a batch are its largest tensor by far (2,048 rows x 50,257 tokens x 4 bytes = 412 MB). The gradient of
    a row needs only that row's softmax, so it is taken while the chunk is at hand, and only sums are kept.
    """

    CHUNK = 256

    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, need_gradient: bool) -> Tensor:
        device = rows_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows_ND.dtype
        weight = weight_VD.to(dtype)
        total = torch.zeros((), device=rows_ND.device)
        rows_grad = torch.empty_like(rows_ND) if need_gradient else None
        weight_grad = torch.zeros_like(weight_VD) if need_gradient else None
        with torch.autocast(device, enabled=False):
            for start in range(0, len(rows_ND), ChunkedCrossEntropy.CHUNK):
                part = slice(start, start + ChunkedCrossEntropy.CHUNK)
                rows, targets = rows_ND[part].to(dtype), targets_N[part, None]
                log_probs = torch.log_softmax(rows @ weight.T, dim=1, dtype=torch.float32)
                total -= log_probs.gather(1, targets).sum()
                if rows_grad is not None and weight_grad is not None:
                    slope = log_probs.exp_()  # softmax minus one-hot is the gradient of the logits
                    slope.scatter_add_(1, targets, slope.new_full(targets.shape, -1.0))
                    slope = slope.to(dtype)
                    rows_grad[part] = slope @ weight
                    weight_grad += slope.T @ rows
        ctx.save_for_backward(rows_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows_grad, weight_grad = ctx.saved_tensors
        (scale,) = grad_outputs
        return rows_grad * scale, weight_grad * scale, None, None
