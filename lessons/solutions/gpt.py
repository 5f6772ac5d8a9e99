"""Chapter 5: the GPT. A solution."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from my_gpt.block import LayerNorm, TransformerBlock
from torch import Tensor, nn


def count_parameters(config: Any) -> int:
    """How many numbers a GPT of this shape learns, by arithmetic alone. `config` has vocab_size, context_length, emb_dim,
    n_layers and qkv_bias; the output head is the token embedding, and counts once."""
    D = config.emb_dim
    attention = D * 3 * D + 3 * D * config.qkv_bias + D * D + D
    feed_forward = D * 4 * D + 4 * D + 4 * D * D + D
    block = attention + feed_forward + 2 * 2 * D
    return (config.vocab_size + config.context_length) * D + config.n_layers * block + 2 * D


class GPT(nn.Module):
    """Token ids (B, T) to logits (B, T, V): a score for every token that may come next.

    Parts: `tok_emb` and `pos_emb` (nn.Embedding), `blocks` (nn.ModuleList), `final_norm`. The logits are the products of
    final_norm's vectors with every row of tok_emb.weight.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.emb_dim)
        self.pos_emb = nn.Embedding(config.context_length, config.emb_dim)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.final_norm = LayerNorm(config.emb_dim)
        self.initialise()

    def initialise(self) -> None:
        """Biases 0, the norms' weights 1, all other weights normal with deviation 0.02; those whose answer is added to the
        stream (attn.out_proj.weight, ff.down.weight) with 0.02 / sqrt(2 * n_layers). `__init__` ends with it."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:
                nn.init.ones_(parameter)
            elif name.endswith(("attn.out_proj.weight", "ff.down.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layers))
            else:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Raises ValueError where there are more tokens than context_length."""
        T = ids_BT.shape[1]
        if self.config.context_length < T:
            raise ValueError(f"{T} tokens do not fit in a context of {self.config.context_length}")
        x_BTD = self.tok_emb(ids_BT) + self.pos_emb(torch.arange(T))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return F.linear(self.final_norm(x_BTD), self.tok_emb.weight)
