"""What my_gpt/gpt.py must do."""

import math

import torch
import torch.nn.functional as F

from wikigpt.config import MODEL_CONFIGS, ModelConfig
from wikigpt.learn.expect import check, expect, same, same_weights
from wikigpt.transformer import GPTModel

CONFIG = ModelConfig(vocab_size=101, context_length=16, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.0, qkv_bias=True)


def with_weights(mine):
    """A wikigpt model with random weights, and the learner's with the same."""
    theirs, own = GPTModel(CONFIG).eval(), mine.GPT(CONFIG).eval()
    same_weights(own, theirs, 0.2)
    return theirs, own


@check(
    "count_parameters: by hand",
    "Token embedding V * D, position embedding context_length * D, two numbers for each of D in every norm.",
    "A linear layer from a to b has a * b weights and b biases. A block has four: D to 3D (its bias only with qkv_bias), D to D, D to 4D, 4D to D.",
    "A block has two norms, and one more comes at the end. The output head costs nothing: it is the token embedding.",
)
def count_parameters(mine):
    theirs = sum(p.numel() for p in GPTModel(CONFIG).parameters())
    got = mine.count_parameters(CONFIG)
    D, L = CONFIG.emb_dim, CONFIG.n_layers
    mistakes = {
        "the final norm is missing": theirs - 2 * D,
        "the output head was counted; it is the token embedding": theirs + CONFIG.vocab_size * D,
        "the norms in the blocks are missing": theirs - L * 4 * D,
        "the bias of q, k and v is missing": theirs - L * 3 * D,
        "the position embedding is missing": theirs - CONFIG.context_length * D,
    }
    same(got, theirs, "count_parameters(config)", mistakes)
    gpt2 = ModelConfig(**MODEL_CONFIGS["gpt2_original"])
    same(mine.count_parameters(gpt2), 124_439_808, "count_parameters of GPT-2")
    without = ModelConfig(**{**MODEL_CONFIGS["tiny"], "qkv_bias": False})
    same(mine.count_parameters(without), without.n_parameters, "count_parameters without qkv_bias")


@check(
    "GPT: the parts, under the names that wikigpt's has",
    "tok_emb = nn.Embedding(vocab_size, emb_dim), pos_emb = nn.Embedding(context_length, emb_dim).",
    "blocks = nn.ModuleList(TransformerBlock(config) for _ in range(n_layers)): a plain list would hide them from PyTorch.",
    "final_norm = LayerNorm(emb_dim). There is no layer for the head.",
)
def parts(mine):
    with_weights(mine)


@check(
    "GPT: wikigpt's logits for the same weights",
    "x = tok_emb(ids) + pos_emb(positions), with positions 0, 1, 2, ...: torch.arange(T).",
    "Then every block, then final_norm, then the product with the token embedding: F.linear(x, self.tok_emb.weight).",
)
def logits(mine):
    theirs, own = with_weights(mine)
    ids = torch.randint(0, 101, (2, 11))
    x = theirs.tok_emb(ids)
    through = x + theirs.pos_emb(torch.arange(11))
    for block in theirs.blocks:
        x, through = block(x, None, None), block(through, None, None)
    mistakes = {
        "positions are missing": F.linear(theirs.final_norm(x), theirs.tok_emb.weight),
        "final_norm is missing": F.linear(through, theirs.tok_emb.weight),
        "these are the final vectors; multiply them with the token embedding": theirs.final_norm(through),
        "these are probabilities; logits come before the softmax": theirs(ids).softmax(-1),
    }
    shifted = theirs.tok_emb(ids) + theirs.pos_emb(torch.arange(1, 12))
    for block in theirs.blocks:
        shifted = block(shifted, None, None)
    mistakes["positions begin at 0, not at 1"] = F.linear(theirs.final_norm(shifted), theirs.tok_emb.weight)
    first = theirs.blocks[0](theirs.tok_emb(ids) + theirs.pos_emb(torch.arange(11)), None, None)
    mistakes["only one block runs, or the first again and again"] = F.linear(
        theirs.final_norm(first), theirs.tok_emb.weight
    )
    same(own(ids), theirs(ids), "GPT(config)(ids)", mistakes)


@check(
    "GPT: no position sees a later one, and no text is too long unsaid",
    "If the logits of a position change when a later token changes, the mask of chapter 3 does not reach here.",
    "if ids.shape[1] > config.context_length: raise ValueError(...)",
)
def limits(mine):
    own = mine.GPT(CONFIG).eval()
    ids = torch.randint(0, 101, (1, 9))
    before = own(ids)
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 101
    same(own(changed)[:, :-1], before[:, :-1], "logits of all but the last position, after the last token changed")
    try:
        own(torch.zeros(1, 16, dtype=torch.long))
    except ValueError:
        expect(False, "16 tokens fit in a context of 16: only more are too long.")
    try:
        own(torch.zeros(1, 17, dtype=torch.long))
    except ValueError:
        return
    except Exception as error:
        expect(False, f"17 tokens in a context of 16 should raise ValueError, not {type(error).__name__}.")
    expect(False, "17 tokens in a context of 16 should raise ValueError.")


@check(
    "initialise: how it begins",
    "Is it called? self.initialise() belongs at the end of __init__.",
    "nn.init.zeros_, nn.init.ones_ and nn.init.normal_(parameter, std=...) fill a parameter in place.",
    "self.named_parameters() gives names like blocks.0.attn.out_proj.weight: name.endswith(...) tells them apart.",
)
def initialise(mine):
    config = ModelConfig(**{**MODEL_CONFIGS["tiny"], "vocab_size": 1000})
    own = mine.GPT(config)
    for name, parameter in own.named_parameters():
        if name.endswith("bias"):
            expect(bool((parameter == 0).all()), f"{name} should begin with zeros.")
        elif parameter.dim() == 1:
            expect(bool((parameter == 1).all()), f"{name} should begin with ones.")
        else:
            residual = name.endswith(("attn.out_proj.weight", "ff.down.weight"))
            right = 0.02 / math.sqrt(2 * config.n_layers) if residual else 0.02
            std = float(parameter.detach().std())
            expect(abs(std / right - 1) < 0.1, f"{name} has deviation {std:.4f} and should have {right:.4f}.")
    ids = torch.randint(0, 1000, (4, 65))
    loss = F.cross_entropy(own(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).item()
    expect(
        abs(loss - math.log(1000)) < 0.2,
        f"The loss before training should be about ln V = {math.log(1000):.2f} and is {loss:.2f}.",
    )
