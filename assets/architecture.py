"""Draws architecture.svg from the model itself: its parts in the order in which they run, their shapes and their parameters.

.venv/bin/python assets/architecture.py
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch
from torch import nn

from wikigpt.config import MODEL_CONFIGS, ModelConfig
from wikigpt.transformer import GPTModel

SAID = {
    "tok_emb": "a vector for each token",
    "pos_emb": "and one for each position",
    "norm1": "one length for all vectors",
    "attn": "what do I find in what came before?",
    "norm2": "one length for all vectors",
    "ff": "what do I make of it?",
    "final_norm": "",
    "head": "a score for every token",
}
INK, LINE, PAPER, BLUE, GREEN, SAND = "#1c2733", "#44546a", "#ffffff", "#eef4fb", "#d6eadf", "#fdebd0"
WIDTH, COLUMN, TALL, GAP = 860, 430, 48, 20


@dataclass
class Part:
    """One module of the first block, or outside the blocks, as it ran."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def parts(config: ModelConfig) -> list[Part]:
    """In the order in which they run on one text of a whole context; nothing is calculated (device meta)."""
    with torch.device("meta"):
        model = GPTModel(config)
        ran: list[Part] = []
        watched: dict[str, nn.Module] = {name: module for name, module in model.named_children() if name != "blocks"}
        watched |= dict(model.blocks[0].named_children())
        for name, module in watched.items():
            if not isinstance(module, nn.Dropout):
                size = sum(p.numel() for p in module.parameters())

                def note(_: nn.Module, __: object, made: torch.Tensor, name: str = name, size: int = size) -> None:
                    ran.append(Part(name, type(watched[name]).__name__, tuple(made.shape), size))

                module.register_forward_hook(note)
        logits = model(torch.zeros(1, config.context_length, dtype=torch.long))
    embedding = Part("tok_emb", "Embedding", (1, config.context_length, config.emb_dim), model.tok_emb.weight.numel())
    head = Part("head", "tied to tok_emb" if model.out_head is None else "Linear", tuple(logits.shape), 0)
    return [embedding, *(part for part in ran if part.name not in ("tok_emb", "out_head")), head]


def draw(name: str, left: int) -> tuple[list[str], int]:
    """A column of the picture, from the token ids at its top to the scores at its end, and its height."""
    config = ModelConfig(**MODEL_CONFIGS[name])
    svg: list[str] = []
    middle, y = left + 200, 62
    svg.append(text(middle, 24, name, "t"))
    svg.append(
        text(middle, 42, f"{config.n_parameters:,} parameters, {config.n_layers} blocks, {config.n_heads} heads", "s")
    )
    for part in parts(config):
        inside = part.name in ("norm1", "attn", "norm2", "ff")
        if part.name == "norm1":
            y += 14
            svg.append(
                f'<rect x="{left + 12}" y="{y - 14}" width="376" height="{4 * TALL + 4 * GAP + 20}" rx="12" fill="{BLUE}" stroke="#8aa6c9" stroke-dasharray="6 4"/>'
            )
            svg.append(text(left + 382, y + 2, f"x {config.n_layers}", "b", "end"))
        fill = GREEN if part.name in ("attn", "ff") else SAND if part.name in ("tok_emb", "pos_emb", "head") else PAPER
        svg.append(
            f'<rect x="{middle - 150}" y="{y}" width="300" height="{TALL}" rx="8" fill="{fill}" stroke="{LINE}"/>'
        )
        times = f" x {config.n_layers}" if inside else ""
        counted = f"{part.parameters:,}{times}" if part.parameters else "no parameters of its own"
        svg.append(text(middle, y + 19, f"{part.name}: {part.kind}"))
        svg.append(text(middle, y + 37, " · ".join(filter(None, (SAID.get(part.name, ""), counted))), "s"))
        svg.append(text(middle + 150, y + TALL + 13, " x ".join(map(str, part.shape[-2:])), "s", "end"))
        if part.name in ("attn", "ff"):  # what it says is added to what runs past it
            top, end = y - TALL - GAP - 6, y + TALL + GAP // 2
            svg.append(
                f'<path d="M {middle} {top} H {left + 30} V {end} H {middle - 8}" fill="none" stroke="{LINE}" marker-end="url(#a)"/>'
            )
            svg.append(
                f'<circle cx="{middle}" cy="{end}" r="7" fill="{PAPER}" stroke="{LINE}"/>' + text(middle, end + 4, "+")
            )
        y += TALL + GAP
        if part.name == "ff":  # out of the block
            y += 22
            svg.append(
                f'<line x1="{middle}" y1="{y - 25}" x2="{middle}" y2="{y}" stroke="{LINE}" marker-end="url(#a)"/>'
            )
        elif part.name not in ("attn", "head"):
            to = (
                y + 14
                if (part.name in ("pos_emb", "tok_emb") and config.arch != "gpt2") or part.name == "pos_emb"
                else y
            )
            svg.append(
                f'<line x1="{middle}" y1="{y - GAP}" x2="{middle}" y2="{to}" stroke="{LINE}" marker-end="url(#a)"/>'
            )
    return svg, y


def text(x: float, y: float, said: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(said)}</text>'


def picture() -> str:
    columns = [draw(name, place * COLUMN + 15) for place, name in enumerate(("gpt2_original", "modern_124m"))]
    height = max(tall for _, tall in columns)
    label = "From token ids at the top to a score for every next token: GPT-2 and the modern model, with shapes and parameters"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{label}">',
        f"<style>text {{ font: 14px system-ui, sans-serif; fill: {INK} }} .s {{ font-size: 11px; fill: #50606f }} .b, .t {{ font-weight: 600 }} .t {{ font-size: 16px }}</style>",
        f'<defs><marker id="a" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M 0 0 L 10 5 L 0 10 z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        *(line for svg, _ in columns for line in svg if line),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "architecture.svg").write_text(picture(), encoding="utf-8")
