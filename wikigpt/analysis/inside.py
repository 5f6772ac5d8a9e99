"""What happens in a model while it reads a text: exactly, with plain attention, however it was trained.

ids ──> Inside(attention_LHTT, stream_LTD) ──> logit lens, norms          token ──> its nearest neighbours
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wikigpt.errors import RunError
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel, shared


@dataclass(frozen=True)
class Inside:
    """L is the number of blocks. `attention_LHTT[l, h, t]` says how much position t takes from each; `stream_LTD` holds the
    residual stream before the first block and after each (L + 1)."""

    attention_LHTT: Tensor
    stream_LTD: Tensor


class _Watching:
    """Calculates attention as its formula is written, and keeps the weights; all else as `ops` does."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self.weights_LBHTT: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def attention(self, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor) -> Tensor:
        """softmax(q kT / sqrt(K)) v, each position seeing itself and all before (Vaswani et al. 2017, equation 1)."""
        k_BHTK, v_BHTK = shared(k_BGTK, q_BHTK.shape[1]), shared(v_BGTK, q_BHTK.shape[1])
        scores_BHTT = q_BHTK.float() @ k_BHTK.float().transpose(-1, -2) / math.sqrt(q_BHTK.shape[-1])
        later_TT = torch.ones(scores_BHTT.shape[-2:], dtype=torch.bool, device=q_BHTK.device).triu(1)
        weights_BHTT = scores_BHTT.masked_fill(later_TT, float("-inf")).softmax(-1)
        self.weights_LBHTT.append(weights_BHTT)
        return (weights_BHTT @ v_BHTK.float()).to(v_BHTK.dtype)


@torch.no_grad()
def look_inside(model: GPTModel, ids: Sequence[int]) -> Inside:
    """Reads some ids, at most a context of them. Leaves the model as it was."""
    device = model.tok_emb.weight.device
    watching, stream = _Watching(model.ops), list[Tensor]()
    blocks: list[Any] = list(model.blocks)
    old = [block.attn.ops for block in blocks]
    hooks = [blocks[0].register_forward_pre_hook(lambda _, given: stream.append(given[0]))]
    hooks += [block.register_forward_hook(lambda _, __, made: stream.append(made)) for block in blocks]
    try:
        for block in blocks:
            block.attn.ops = watching
        model.hidden(torch.tensor([list(ids)], device=device))
    finally:
        for block, ops in zip(blocks, old, strict=True):
            block.attn.ops = ops
        for hook in hooks:
            hook.remove()
    alone_LHTT = torch.ones(len(blocks), model.config.n_heads, 1, 1)  # a single token sees itself
    attention_LHTT = torch.cat(watching.weights_LBHTT).cpu() if len(ids) > 1 else alone_LHTT
    return Inside(attention_LHTT, _numbers(torch.cat(stream).float().cpu()))


def _numbers(x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise RunError("The model's weights are no longer numbers.", "Take an earlier --checkpoint.")
    return x


@torch.no_grad()
def logit_lens(model: GPTModel, inside: Inside, top: int = 1) -> tuple[Tensor, Tensor]:
    """What the model would say if it stopped before the first block and after each: the likeliest `top` tokens and their
    probabilities, both (L + 1, T, top). The last is what it does say.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens": the final norm and the head, applied early.
    """
    device = model.tok_emb.weight.device
    tokens, probabilities = [], []
    for stream_TD in inside.stream_LTD:
        probs_TV = model.head(model.final_norm(stream_TD.to(device))).float().softmax(-1).cpu()
        best = probs_TV.topk(min(top, probs_TV.shape[-1]))
        tokens.append(best.indices)
        probabilities.append(best.values)
    return torch.stack(tokens), torch.stack(probabilities)


def lens_words(model: GPTModel, tokenizer: Tokenizer, inside: Inside) -> list[list[tuple[str, float]]]:
    """The lens's likeliest token and its probability, by depth and position, as text."""
    tokens, chances = (layers[..., 0].tolist() for layers in logit_lens(model, inside))
    return [
        [(tokenizer.decode([token]), p) for token, p in zip(row, sure, strict=True)]
        for row, sure in zip(tokens, chances, strict=True)
    ]


@torch.no_grad()
def nearest(model: GPTModel, tokenizer: Tokenizer, token: int, count: int = 10) -> list[tuple[str, float]]:
    """The tokens whose embeddings point most nearly the same way, with the cosine of the angle."""
    weight_VD = _numbers(model.tok_emb.weight.detach().float()[: tokenizer.vocab_size])
    unit_VD = torch.nn.functional.normalize(weight_VD, dim=-1)
    cosines_V = unit_VD @ unit_VD[token]
    cosines_V[token] = -2.0
    best = cosines_V.topk(min(count, len(cosines_V) - 1))
    return [(shown(tokenizer, n), c) for n, c in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def shown(tokenizer: Tokenizer, token: int) -> str:
    """A token as text, its bytes where it is a part of a character."""
    bytes_ = tokenizer.decode_bytes([token])
    text = bytes_.decode("utf-8", "replace")
    return text if "\ufffd" not in text else " ".join(f"<{byte:02X}>" for byte in bytes_)


@dataclass(frozen=True)
class Norm:
    """Of one layer: the root mean square of what it hands on, and the length of its parameters' gradient."""

    layer: str
    activation: float
    gradient: float


def norms(model: GPTModel, ids: Sequence[int]) -> list[Norm]:
    """Embeddings, each block, and what comes behind them, for the mean loss of a text. Leaves no gradients behind."""
    row = torch.tensor([list(ids)], device=model.tok_emb.weight.device)
    sizes, blocks = list[float](), list[Any](model.blocks)

    def note(x: Tensor) -> None:
        sizes.append(float(x.detach().float().pow(2).mean().sqrt()))

    hooks = [blocks[0].register_forward_pre_hook(lambda _, given: note(given[0]))]
    hooks += [part.register_forward_hook(lambda _, __, made: note(made)) for part in (*blocks, model.final_norm)]
    try:
        with torch.enable_grad():
            model.zero_grad()
            _numbers(model.loss(row[:, :-1], row[:, 1:])).backward()
    finally:
        for hook in hooks:
            hook.remove()
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        words = name.split(".")
        layer = f"block {words[1]}" if words[0] == "blocks" else "embeddings" if words[0].endswith("emb") else "head"
        own = 0.0 if parameter.grad is None else float(parameter.grad.float().pow(2).sum())
        squares[layer] = squares.get(layer, 0.0) + own
    model.zero_grad()
    layers = ["embeddings", *(f"block {n}" for n in range(len(blocks))), "head"]
    return [Norm(layer, size, math.sqrt(squares.get(layer, 0.0))) for layer, size in zip(layers, sizes, strict=True)]
