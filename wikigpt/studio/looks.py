"""Looking inside a run: its architecture with every parameter, and what happens while it reads a text."""

import base64
from typing import Any

import torch
from fastapi import APIRouter

from wikigpt.analysis.inside import lens_words, look_inside
from wikigpt.errors import ConfigError
from wikigpt.plan import flops_per_token
from wikigpt.runs import Run
from wikigpt.studio.asked import Reader, Text, thought
from wikigpt.studio.engine import Engine, Loaded
from wikigpt.transformer import GPTModel, padded

INSIDE = 96  # tokens whose attention and lens are shown


def router(engine: Engine) -> APIRouter:
    """What the page "Inside" asks for."""
    api = APIRouter(prefix="/api", tags=["inside"])

    @api.get("/runs/{name}/architecture")
    def architecture(name: str) -> dict[str, Any]:
        """The configuration of a run's model, and each of its parameters as it is made: name, shape, number."""
        return described(engine.run(name))

    @api.post("/inside")
    async def inside(text: Text) -> dict[str, Any]:
        """What each token of a text cost, attention by layer and head (bytes, base64, 255 for all), and the logit lens."""
        return await engine.models.work(_inside, engine, text)

    return api


def described(run: Run) -> dict[str, Any]:
    """The parameters of a model that is made without memory for them."""
    config = run.config.model
    with torch.device("meta"):
        model = GPTModel(config)
    parts = [[name, list(p.shape), p.numel()] for name, p in model.named_parameters()]
    return {
        "run": run.name,
        "config": vars(config),
        "parameters": parts,
        "total": config.n_parameters,
        "padding": padded(config) - config.vocab_size,  # rows of the embedding (and of the head) that never count
        "flops_per_token": flops_per_token(config),
    }


def _inside(engine: Engine, text: Text) -> dict[str, Any]:
    loaded = engine.load(*engine.find(text.run, text.checkpoint))
    ids = text.all_ids(loaded.tokenizer)
    end_of_text, context = loaded.tokenizer.end_of_text, loaded.model.config.context_length
    ids = ids if ids[0] == end_of_text else [end_of_text, *ids]  # as an article is read
    if len(ids) < 2:
        raise ConfigError("There is no text yet.", "Write some.")
    seen = ids[:context]
    with loaded.lock:
        found = look_inside(loaded.model, seen[:INSIDE])
        lens = lens_words(loaded.model, loaded.tokenizer, found)
    shades_LHTT = (found.attention_LHTT * 255).round().byte()
    tokens = _surprise(loaded, seen)
    return {
        "model": loaded.name,
        "tokens": tokens,
        "all_tokens": len(ids) - 1,
        "words": ["<end>", *(token["text"] for token in tokens[: INSIDE - 1])],
        "attention": [[base64.b64encode(h.numpy().tobytes()).decode() for h in layer] for layer in shades_LHTT],
        "lens": [[[word, round(p, 4)] for word, p in row] for row in lens],
    }


def _surprise(loaded: Loaded, ids: list[int]) -> list[dict[str, Any]]:
    """Every id after the first."""
    reader, log_probs_TV = Reader(loaded.tokenizer), loaded.log_probs_TV(ids[:-1])
    return [
        {"id": token, "text": reader.text(token)} | thought(loaded.tokenizer, token, row)
        for token, row in zip(ids[1:], log_probs_TV, strict=True)
    ]
