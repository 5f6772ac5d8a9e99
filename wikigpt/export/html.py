"""One page that holds a small model and writes articles in any browser, without a network.

Trained ──> int8 matrices, one scale per row ──┐
tokenizer ─────────────────────────────────────┼──> index.html
web/page.html, page.js, model.js ──────────────┘
"""

import base64
import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wikigpt.config import write_text
from wikigpt.errors import ConfigError
from wikigpt.export.card import example, score_of, text_name
from wikigpt.export.licence import credits
from wikigpt.export.trained import Trained
from wikigpt.tokenizer import Tokenizer
from wikigpt.tokenizer_json import GPT2_PATTERN, PATTERN

PAGE = "index.html"
MOST = 25_000_000  # parameters: a page of about 35 MB
WEB = Path(__file__).with_name("web")


def check_page(trained: Trained) -> None:
    """Raises ConfigError for a model that is too large for a page, or a tokenizer that the page cannot follow."""
    if trained.config.n_parameters > MOST:
        problem = (
            f"{trained.name} has {trained.config.n_parameters / 1e6:,.0f} million parameters, too many for a page."
        )
        raise ConfigError(problem, f"Up to {MOST / 1e6:.0f} million fit; take --gguf for this one.")
    if trained.tokenizer.pattern not in (GPT2_PATTERN, PATTERN) or trained.tokenizer.cuts or trained.tokenizer.nfc:
        problem = "A page cannot cut text as this model's tokenizer does."
        raise ConfigError(problem, "Leave out --html, or train with --tokenizer gpt2 or bpe.")


def write_page(trained: Trained, folder: Path) -> Path:
    """Writes index.html."""
    check_page(trained)
    tensors, blob = packed(quantized(trained.weights))
    record = {"config": asdict(trained.config), "tensors": tensors, "tokenizer": tokenizer_record(trained.tokenizer)}
    code = "".join((WEB / name).read_text(encoding="utf-8") for name in ("model.js", "page.js"))
    source = trained.run.config.source
    words = {
        "name": escape(trained.name),
        "summary": escape(_summary(trained)),
        "title": escape(example(trained).rpartition("\n")[2], quote=True),
        "language": escape(source[0]["wiki"], quote=True) if source else "",
        "origin": "".join(f"<p>{escape(credit)}</p>" for credit in credits(trained.run.config)),
        "version": escape(trained.run.config.wikigpt_version),
        "model": json.dumps(record).replace("<", "\\u003c"),  # "</script>" cannot end it
        "weights": base64.b64encode(blob).decode(),
        "code": code,
    }
    template = Template((WEB / "page.html").read_text(encoding="utf-8"))
    write_text(folder / PAGE, template.substitute(words))
    return folder / PAGE


Quantized = dict[str, tuple[Tensor, Tensor | None]]  # float32 and None; or int8 (rows, columns) and a scale per row


def quantized(weights: dict[str, Tensor]) -> Quantized:
    """Each matrix as int8: its largest value in a row becomes 127. What is no matrix stays float32."""
    found: Quantized = {}
    for name, tensor in weights.items():
        if tensor.dim() == 1:
            found[name] = tensor.float(), None
            continue
        scales = (tensor.float().abs().amax(1) / 127).clamp(min=1e-12)
        found[name] = (tensor.float() / scales[:, None]).round().to(torch.int8), scales
    return found


def dequantized(weights: Quantized) -> dict[str, Tensor]:
    """The numbers that such weights stand for, float32: what the page calculates with."""
    return {name: t if scales is None else t.float() * scales[:, None] for name, (t, scales) in weights.items()}


def packed(weights: Quantized) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Where each tensor lies, and all of them: floats first, so that they begin at a multiple of four."""
    parts: list[np.ndarray] = []
    tensors: dict[str, dict[str, Any]] = {}
    offset = 0

    def place(array: np.ndarray) -> int:
        nonlocal offset
        parts.append(array)
        offset += array.nbytes
        return offset - array.nbytes

    for name, (tensor, scales) in weights.items():
        tensors[name] = {"shape": list(tensor.shape)}
        if scales is None:
            tensors[name]["offset"] = place(tensor.numpy().astype("<f4"))
        else:
            tensors[name]["scales"] = place(scales.numpy().astype("<f4"))
    for name, (tensor, scales) in weights.items():
        if scales is not None:
            tensors[name]["offset"] = place(tensor.numpy())
    return tensors, b"".join(part.tobytes() for part in parts)


def tokenizer_record(tokenizer: Tokenizer) -> dict[str, Any]:
    """What model.js needs of a tokenizer."""
    by_rank = sorted(tokenizer.ranks, key=tokenizer.ranks.__getitem__)
    return {
        "pattern": javascript(tokenizer.pattern),
        "tokens": " ".join(base64.b64encode(token).decode() for token in by_rank),
        "ids": None if tokenizer.ids is None else tokenizer.ids.tolist(),
        "end_of_text": tokenizer.end_of_text,
    }


def javascript(pattern: str) -> str:
    r"""One of our two patterns as JavaScript writes it: \s means other characters there (U+FEFF, and not U+0085), and it
    has no possessive quantifiers, which change the speed of these patterns and not what they match."""
    plain = pattern.replace("++", "+")
    return plain.replace(r"\s", r"\p{White_Space}").replace(r"\S", r"\P{White_Space}")


def _summary(trained: Trained) -> str:
    run, score = trained.run.config, score_of(trained)
    figures = f", {score['bits_per_byte']:.2f} bits per byte on articles that it has never seen" if score else ""
    began = f"on the weights of {run.init_name}" if run.init_name else "from scratch"
    size = f"{trained.config.n_parameters / 1e6:.1f} million parameters"
    return f"A GPT of {size}, trained {began} on {text_name(run)}{figures}."
