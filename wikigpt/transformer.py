"""The model, read top-down: a GPT-2, or the same with the parts that have proved better since. Token ids go in, a score
(logit) for every possible next token comes out.

    inputs_BT ──> embeddings ──> n_layers x [ attention, feed-forward ] ──> norm ──> head ──> logits_BTV

    arch    norm       positions               attention                       feed-forward    biases  shape of
    gpt2    LayerNorm  a vector for each       MultiHeadAttention              GELU, 4 x wide  yes     GPT2LMHeadModel
    qwen3   RMSNorm    turn q and k (RoPE)     GroupedQueryAttention, QK-norm  SwiGLU          none    Qwen3ForCausalLM

Shapes are named by suffix: B batch, T time (position in the text), D emb_dim, H heads, K head size, V vocabulary.
This file needs torch alone, and `GPTModel(config)` takes any object with the attributes of `ModelConfig`, so that it
can be copied into a published model as it is.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (pre-norm blocks, learned positions,
tanh GELU, output head tied to the embedding); Yang et al. 2025, "Qwen3 Technical Report", with the parts of Zhang &
Sennrich 2019 (RMSNorm), Su et al. 2021 (RoPE), Shazeer 2020 (SwiGLU), Ainslie et al. 2023 (grouped queries), Henry et al.
2020 (QK-norm). Both are the classes of transformers exactly.
"""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


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
    @property
    def arch(self) -> str: ...
    @property
    def n_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def ffn_dim(self) -> int: ...
    @property
    def rope_theta(self) -> float: ...
    @property
    def tie_embeddings(self) -> bool: ...


class KVCache:
    """Keys and values of the tokens already read, so that each new token costs one position and not the whole text.

    The generator owns it and passes it to the model; `length` is how many positions it holds.
    """

    def __init__(self, config: Config, batch_size: int, device: torch.device | str, dtype: torch.dtype) -> None:
        shape = (config.n_layers, batch_size, config.n_kv_heads, config.context_length, config.head_dim)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0

    def extend(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one layer's new keys and values and returns all of that layer's, old and new."""
        end = self.length + k_BHTK.shape[2]
        self.keys[layer, :, :, self.length : end] = k_BHTK
        self.values[layer, :, :, self.length : end] = v_BHTK
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class Plain:
    """What is no matrix product, in plain PyTorch. Whoever has the same faster gives it to `GPTModel.use` (wikigpt.kernels
    has it in C, for CPUs)."""

    PLAIN_UP_TO = 512  # positions: up to there PyTorch's fused kernel for CPUs takes two to three times as long

    @staticmethod
    def embedding(inputs_BT: Tensor, weight_VD: Tensor, tied: bool) -> Tensor:
        """The row of each token; `tied`: they are the output head's too."""
        return F.embedding(inputs_BT, weight_VD)

    @staticmethod
    def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, weight.shape, weight.to(x.dtype), bias.to(x.dtype), eps)

    @staticmethod
    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Brings each vector to length sqrt(its size), times a learned weight: LayerNorm without mean and bias."""
        return F.rms_norm(x.float(), weight.shape, weight.float(), eps)  # heads come in 16 bits, with FSDP weights too

    @staticmethod
    def turn(x_BTHK: Tensor, weight_K: Tensor, rotation: Tensor, eps: float) -> Tensor:
        """Heads brought to one length and turned by their position: (B, H, T, K)."""
        return rotate(Plain.rms_norm(x_BTHK, weight_K, eps).transpose(1, 2), rotation).to(x_BTHK.dtype)

    @staticmethod
    def gelu(x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    @staticmethod
    def swiglu(gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate) * up

    @staticmethod
    def attention(q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, dropout: float = 0.0) -> Tensor:
        """softmax(q kT / sqrt(K)) v, each position seeing itself and all before. Fewer heads of keys and values than of
        queries are shared by neighbours."""
        k_BHTK, v_BHTK = shared(k_BGTK, q_BHTK.shape[1]), shared(v_BGTK, q_BHTK.shape[1])
        if q_BHTK.device.type == "cpu" and q_BHTK.shape[2] <= Plain.PLAIN_UP_TO:
            return plain_attention(q_BHTK, k_BHTK, v_BHTK, dropout)
        return F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, dropout_p=dropout, is_causal=True)

    @staticmethod
    def cross_entropy(logits_NV: Tensor, targets_N: Tensor, vocab_size: int, need_gradient: bool) -> Tensor:
        """Sum of the cross-entropy of logits, of which the first `vocab_size` count. Leaves its gradient, softmax minus
        one-hot, in their place."""
        logits_NV[:, vocab_size:] = float("-inf")  # what only pads
        log_probs = torch.log_softmax(logits_NV, dim=1, dtype=torch.float32)
        targets = targets_N[:, None]
        loss = -log_probs.gather(1, targets).sum()
        if need_gradient:
            logits_NV.copy_(log_probs.exp_().scatter_add_(1, targets, log_probs.new_full(targets.shape, -1.0)))
        return loss


def plain_attention(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, dropout: float) -> Tensor:
    """Attention as its paper writes it (Vaswani et al. 2017, equation 1). Equal to
    `F.scaled_dot_product_attention(..., is_causal=True)`."""
    T, K = q_BHTK.shape[-2:]
    later_TT = torch.full((T, T), float("-inf"), device=q_BHTK.device, dtype=q_BHTK.dtype).triu(1)
    weights_BHTT = torch.softmax((q_BHTK / math.sqrt(K)) @ k_BHTK.transpose(-1, -2) + later_TT, dim=-1)
    return F.dropout(weights_BHTT, dropout) @ v_BHTK


def shared(x_BGTK: Tensor, heads: int) -> Tensor:
    """Heads of keys or values, each repeated for the heads of queries that share it."""
    times = heads // x_BGTK.shape[1]
    return x_BGTK.repeat_interleave(times, 1) if times > 1 else x_BGTK


def attend(
    ops: Any, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, cache: KVCache | None, layer: int, dropout: float = 0.0
) -> Tensor:
    """What each position finds in itself and all before it, also in those that a cache holds: (B, T, H * K)."""
    H, T = q_BHTK.shape[1:3]
    past = cache.length if cache is not None else 0
    if cache is not None:
        k_BGTK, v_BGTK = cache.extend(layer, k_BGTK, v_BGTK)
    if past == 0 and T > 1:
        y_BHTK = Plain.attention(q_BHTK, k_BGTK, v_BGTK, dropout) if dropout else ops.attention(q_BHTK, k_BGTK, v_BGTK)
    else:
        mask = None  # a single new token may see everything
        if T > 1:  # several new tokens after old ones: each sees the old ones and its past
            mask = torch.ones(T, past + T, dtype=torch.bool, device=q_BHTK.device).tril(past)
        y_BHTK = F.scaled_dot_product_attention(q_BHTK, shared(k_BGTK, H), shared(v_BGTK, H), mask, dropout)
    return y_BHTK.transpose(1, 2).flatten(2)


class MultiHeadAttention(nn.Module):
    """Every position looks back at itself and all earlier ones, in several heads at once."""

    ops: Any = Plain

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.drop_rate = config.drop_rate
        self.layer = layer
        self.qkv = nn.Linear(config.emb_dim, 3 * config.emb_dim, bias=config.qkv_bias)
        self.out_proj = nn.Linear(config.emb_dim, config.emb_dim)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x_BTD: Tensor, rotation: Tensor | None, cache: KVCache | None) -> Tensor:
        q_BHTK, k_BHTK, v_BHTK = self.qkv(x_BTD).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.drop_rate if self.training else 0.0
        y_BTD = attend(self.ops, q_BHTK, k_BHTK, v_BHTK, cache, self.layer, dropout)
        return self.dropout(self.out_proj(y_BTD))


class GroupedQueryAttention(nn.Module):
    """The same with fewer heads of keys and values. Queries and keys are brought to one length, so that no score can grow
    without bound, and then turned by their position."""

    ops: Any = Plain

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.layer = layer
        self.q_proj = nn.Linear(config.emb_dim, config.n_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.emb_dim, config.n_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.emb_dim, config.n_kv_heads * config.head_dim, bias=False)
        self.q_norm = RMSNorm(config.head_dim)
        self.k_norm = RMSNorm(config.head_dim)
        self.out_proj = nn.Linear(config.n_heads * config.head_dim, config.emb_dim, bias=False)

    def forward(self, x_BTD: Tensor, rotation: Tensor | None, cache: KVCache | None) -> Tensor:
        assert rotation is not None
        q_BTHK, k_BTGK, v_BTGK = (
            projection(x_BTD).unflatten(-1, (-1, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q_BHTK = self.ops.turn(q_BTHK, self.q_norm.weight, rotation, self.q_norm.eps)
        k_BGTK = self.ops.turn(k_BTGK, self.k_norm.weight, rotation, self.k_norm.eps)
        return self.out_proj(attend(self.ops, q_BHTK, k_BGTK, v_BTGK.transpose(1, 2), cache, self.layer))


def rotations(positions_T: Tensor, config: Config) -> Tensor:
    """Cosine and sine (2, T, K) of the angles by which RoPE turns each pair of a head's numbers at each position: from one
    radian a token down to about 1 / rope_theta."""
    K = config.head_dim
    speeds = config.rope_theta ** -(torch.arange(0, K, 2, device=positions_T.device) / K)
    angles = torch.outer(positions_T, speeds).repeat(1, 2)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x_BHTK: Tensor, rotation: Tensor) -> Tensor:
    """Turns the pairs (k, k + K / 2) of each head. Two positions' product then depends on their distance alone."""
    first, second = x_BHTK.chunk(2, dim=-1)
    return x_BHTK * rotation[0] + torch.cat([-second, first], dim=-1) * rotation[1]


class FeedForward(nn.Module):
    """Each position thinks for itself: four times wider, a bend, and back."""

    ops: Any = Plain

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.emb_dim, 4 * config.emb_dim)
        self.down = nn.Linear(4 * config.emb_dim, config.emb_dim)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.dropout(self.down(self.ops.gelu(self.up(x_BTD))))


class SwiGLU(nn.Module):
    """The same with a gate: one half says what, the other how much of it."""

    ops: Any = Plain

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.ffn_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.emb_dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(self.ops.swiglu(self.gate(x_BTD), self.up(x_BTD)))


class LayerNorm(nn.LayerNorm):
    """Brings each vector to mean 0 and deviation 1, times a learned weight, plus a learned bias."""

    ops: Any = Plain

    def forward(self, x: Tensor) -> Tensor:
        return self.ops.layer_norm(x, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """The same without mean and bias."""

    ops: Any = Plain

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.ops.rms_norm(x, self.weight, self.eps)


PARTS: dict[str, tuple[Any, Any, Any]] = {
    "gpt2": (LayerNorm, MultiHeadAttention, FeedForward),
    "qwen3": (RMSNorm, GroupedQueryAttention, SwiGLU),
}


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy of the stream and adds its answer to it."""

    recompute = False  # activation checkpointing: on the way back all is calculated again, and only the stream was kept

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        norm, attention, feed_forward = PARTS[config.arch]
        self.norm1 = norm(config.emb_dim)
        self.attn = attention(config, layer)
        self.norm2 = norm(config.emb_dim)
        self.ff = feed_forward(config)

    def forward(self, x_BTD: Tensor, rotation: Tensor | None, cache: KVCache | None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.calculate, x_BTD, rotation, cache, use_reentrant=False)
        return self.calculate(x_BTD, rotation, cache)

    def calculate(self, x_BTD: Tensor, rotation: Tensor | None, cache: KVCache | None) -> Tensor:
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD), rotation, cache)
        return x_BTD + self.ff(self.norm2(x_BTD))


class GPTModel(nn.Module):
    """A GPT of any size. Raises ValueError where the configuration or the input cannot be."""

    ops: Any = Plain

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        self.config = config
        V = padded(config)
        self.tok_emb = nn.Embedding(V, config.emb_dim)
        self.pos_emb = nn.Embedding(config.context_length, config.emb_dim) if config.arch == "gpt2" else None
        self.drop_emb = nn.Dropout(config.drop_rate)
        self.blocks = nn.ModuleList(TransformerBlock(config, layer) for layer in range(config.n_layers))
        self.final_norm = PARTS[config.arch][0](config.emb_dim)
        self.out_head = None if config.tie_embeddings else nn.Linear(config.emb_dim, V, bias=False)
        self.register_load_state_dict_pre_hook(pad_rows)
        self.initialise()

    def initialise(self, zero_projections: bool = False) -> None:
        """GPT-2's own start: normal with deviation 0.02; what adds to the residual stream is scaled down by
        sqrt(2 * n_layers), since that many terms add up in it (Radford et al. 2019, section 2.3). Where these begin at
        zero instead, every block begins by doing nothing (Zhang et al. 2019, "Fixup")."""
        small = 0.0 if zero_projections else 0.02 / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:  # a norm's weight
                nn.init.ones_(parameter)
            else:
                residual = name.endswith(("attn.out_proj.weight", "ff.down.weight"))
                nn.init.normal_(parameter, std=small if residual else 0.02)

    def use(self, ops: Any) -> None:
        """Lets every part calculate with `ops`, which has the functions of `Plain`."""
        for module in self.modules():
            if hasattr(module, "ops"):
                module.ops = ops

    def hidden(self, inputs_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids (B, T) to final hidden states (B, T, D). A cache holds what came before and is extended."""
        past = cache.length if cache is not None else 0
        T = inputs_BT.shape[1]
        if past + T > self.config.context_length:
            raise ValueError(f"{past + T} tokens do not fit in a context of {self.config.context_length}")
        positions_T = torch.arange(past, past + T, device=inputs_BT.device)
        x_BTD, rotation = self.ops.embedding(inputs_BT, self.tok_emb.weight, self.out_head is None), None
        if self.pos_emb is not None:
            x_BTD = x_BTD + self.pos_emb(positions_T)
        else:
            rotation = rotations(positions_T, self.config)
        x_BTD = self.drop_emb(x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD, rotation, cache)
        if cache is not None:
            cache.length += T
        return self.final_norm(x_BTD)

    def forward(self, inputs_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids (B, T) to logits (B, T, V)."""
        return self.head(self.hidden(inputs_BT, cache))

    def next_logits(self, inputs_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids (B, T) to the logits (B, V) of what comes after the last."""
        return self.head(self.hidden(inputs_BT, cache)[:, -1])

    def head(self, hidden: Tensor) -> Tensor:
        """Final hidden states (..., D) to logits (..., V)."""
        return F.linear(hidden, self.head_weight)[..., : self.config.vocab_size]

    @property
    def head_weight(self) -> Tensor:
        """A row for each token, and for what pads them: the token embedding, used backwards, where the two are tied."""
        return self.tok_emb.weight if self.out_head is None else self.out_head.weight

    def loss(self, inputs_BT: Tensor, targets_BT: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats against the next tokens (B, T); `sum` adds up over all of them, `mean` divides by
        their number. Equal to `F.cross_entropy` on the logits, without ever holding all of them in memory."""
        rows_ND, targets_N = self.hidden(inputs_BT).flatten(0, 1), targets_BT.flatten()
        given = (targets_N, self.config.vocab_size, torch.is_grad_enabled(), self.ops)
        total = ChunkedCrossEntropy.apply(rows_ND, self.head_weight, *given)
        return total / targets_BT.numel() if reduction == "mean" else total


def check(config: Config) -> None:
    """Raises ValueError for a shape that cannot be."""
    if config.arch not in PARTS:
        raise ValueError(f"arch {config.arch!r} is none of {', '.join(PARTS)}")
    if config.arch == "gpt2" and config.emb_dim % config.n_heads:
        raise ValueError(f"emb_dim {config.emb_dim} cannot be shared out over n_heads {config.n_heads}")
    if config.n_heads % config.n_kv_heads:
        raise ValueError(f"n_heads {config.n_heads} cannot be shared out over n_kv_heads {config.n_kv_heads}")
    if config.arch == "qwen3" and config.head_dim % 2:
        raise ValueError(f"head_dim {config.head_dim} is odd: RoPE turns pairs")


def padded(config: Config) -> int:
    """Rows of the token embedding: with GPT-2 one for each token, else the next multiple of 64, which GPUs multiply faster.
    What pads has no logit, so it can never be drawn."""
    return config.vocab_size if config.arch == "gpt2" else -(-config.vocab_size // 64) * 64


def pad_rows(model: "GPTModel", weights: dict[str, Tensor], *_: Any) -> None:
    """Before weights are loaded: those of a published model have no padding."""
    missing = padded(model.config) - model.config.vocab_size
    for name in ("tok_emb.weight", "out_head.weight"):
        if missing and name in weights and len(weights[name]) == model.config.vocab_size:
            weights[name] = F.pad(weights[name], (0, 0, 0, missing))


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy of `(rows_ND @ weight_VD.T)[:, :vocab_size]` against targets_N, some rows at a time.

    The logits of a batch are its largest tensor by far (2,048 rows x 50,257 tokens x 4 bytes = 412 MB). The gradient of
    a row needs only that row's softmax, so it is taken while the chunk is at hand, and only sums are kept.
    """

    CHUNK = 2**27  # logits at once: 256 MB in 16 bits

    @staticmethod
    def forward(
        ctx: Any, rows_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, vocab_size: int, need_gradient: bool, ops: Any
    ) -> Tensor:
        device, V = rows_ND.device, len(weight_VD)
        vocab_size = min(vocab_size, V)  # of a model whose padding was cut off
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else rows_ND.dtype
        # Rows of zeros more, where V is no multiple of 64: a product with an odd number of columns takes half as long again.
        weight = torch.empty(-(-V // 64) * 64, weight_VD.shape[1], dtype=dtype, device=device)
        weight[:V], weight[V:] = weight_VD, 0
        total = torch.zeros((), device=device)
        rows_grad = torch.empty_like(rows_ND) if need_gradient else None
        weight_grad = None
        chunks = -(-len(rows_ND) * V // ChunkedCrossEntropy.CHUNK)
        size = max(1, -(-len(rows_ND) // max(1, chunks)))
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(rows_ND), size):
                here = slice(start, start + size)
                rows = rows_ND[here].to(dtype)
                logits = rows @ weight.T
                total += ops.cross_entropy(logits, targets_N[here], vocab_size, need_gradient)
                if rows_grad is not None:
                    rows_grad[here] = logits @ weight
                    grad = (logits.T @ rows)[:V].to(weight_VD.dtype)
                    weight_grad = grad if weight_grad is None else weight_grad.add_(grad)
        ctx.save_for_backward(rows_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = grad_outputs
        rows_grad, weight_grad = (kept.mul_(scale) for kept in ctx.saved_tensors)  # they are of no use after that
        return rows_grad, weight_grad, None, None, None, None
