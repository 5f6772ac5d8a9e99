"""Talking to a run: text token by token with what the model thought, titles of no article, and passages that it repeats."""

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from wikigpt.analysis.memory import passages_of
from wikigpt.data.lookup import has_title
from wikigpt.data.passages import SMALL, Passages, is_indexed
from wikigpt.data.shards import Data, find_data
from wikigpt.errors import DataError, RunError
from wikigpt.generate import Drawn, Sampling
from wikigpt.runs import Run
from wikigpt.studio.asked import ALTERNATIVES, MOST_TOKENS, Checkpoint, Reader, Seed, Stream, Text, thought
from wikigpt.studio.engine import Engine, Loaded
from wikigpt.studio.turns import one_by_one

PASSAGE = 8  # tokens from which on a passage is shown
TITLE = 24  # tokens of a title
TRIES = 8  # for a title that no article has


class Wanted(Text):
    """How to go on with a text."""

    max_gen: int = Field(200, ge=0, le=MOST_TOKENS)
    temperature: float = Field(0.8, ge=0, le=100, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: Seed | None = None
    alternatives: int = Field(ALTERNATIVES, ge=0, le=20)


class Dice(Checkpoint):
    """Which title is invented follows from the seed."""

    seed: Seed | None = None


def router(engine: Engine, datafolder: str) -> APIRouter:
    """What the playground asks for."""
    api = APIRouter(prefix="/api", tags=["playground"])

    @api.post("/generate")
    async def generate(wanted: Wanted) -> Stream:
        """Goes on with a text. Events: "start" with the prompt's tokens; one for each token; "end"."""
        run, folder = await run_in_threadpool(engine.find, wanted.run, wanted.checkpoint)
        tokenizer = await run_in_threadpool(engine.tokenizer, run)
        ids = wanted.all_ids(tokenizer)  # a mistake is said before the stream begins
        return Stream(engine.models.ticket(), written(engine, run, folder, ids, wanted))

    @api.post("/title")
    async def title(dice: Dice) -> dict[str, Any]:
        """A title that the model invents. `known`: whether an article of its data is called so (null where that data is not
        there)."""
        return await engine.models.work(_invented, engine, dice, datafolder)

    @api.post("/passages")
    async def passages(text: Text) -> dict[str, Any]:
        """Passages of a text that the training text holds word for word, and the articles that they are from."""
        return await engine.files.work(_passages, engine, text, datafolder)

    return api


async def written(
    engine: Engine, run: Run, folder: Path, ids: list[int], wanted: Wanted
) -> AsyncIterator[dict[str, Any]]:
    """The events of /api/generate."""
    loaded = await run_in_threadpool(engine.load, run, folder)
    began, reader = time.perf_counter(), Reader(loaded.tokenizer)
    seed = secrets.randbelow(10_000) if wanted.seed is None else wanted.seed
    prompt = [[token, reader.text(token)] for token in ids]
    yield {"start": {"model": loaded.name, "checkpoint": loaded.checkpoint, "seed": seed, "prompt": prompt}}
    sampling = Sampling(wanted.max_gen, wanted.temperature, wanted.top_k, wanted.top_p, seed)
    count, first = 0, 0.0
    tokens = (_told(loaded, token, wanted.alternatives) for token in loaded.tokens(ids, sampling))
    async for told in one_by_one(tokens):
        count += 1
        first = first or time.perf_counter() - began
        yield {"text": reader.text(told["id"])} | told
    seconds = time.perf_counter() - began
    why = "length" if count == wanted.max_gen else "stop"
    yield {"end": {"why": why, "tokens": count, "seconds": seconds, "first": first, "text": reader.rest()}}


def _told(loaded: Loaded, token: Drawn, alternatives: int) -> dict[str, Any]:
    return {"id": token.id} | thought(
        loaded.tokenizer, token.id, token.logits_V.float().log_softmax(-1).cpu(), alternatives
    )


def _invented(engine: Engine, dice: Dice, datafolder: str) -> dict[str, Any]:
    loaded = engine.load(*engine.find(dice.run, dice.checkpoint))
    seed = secrets.randbelow(10_000) if dice.seed is None else dice.seed
    data = data_of(loaded.run, datafolder)
    title, known = "", None
    for number in range(TRIES):
        found = _title(loaded, seed + number)
        if not found:
            continue
        title, known = found, None if data is None else any(has_title(folder, found) for folder, _ in data.parts)
        if not known:
            break
    if not title:
        raise RunError("It invented no title: it has not yet learned how an article begins.", "Train it a little more.")
    return {"title": title, "known": known, "seed": seed}


def _title(loaded: Loaded, seed: int) -> str:
    """What stands between "# " and the end of the line when a new article begins."""
    tokenizer = loaded.tokenizer
    start = [tokenizer.end_of_text, *tokenizer.encode("#").tolist()]
    drawn = b""
    for token, _ in loaded.tokens(start, Sampling(TITLE, temperature=0.9, top_p=0.95, seed=seed)):
        drawn += tokenizer.decode_bytes([token])
        if b"\n" in drawn:
            break
    return drawn.decode("utf-8", "replace").split("\n")[0].strip(" #\ufffd")


def _passages(engine: Engine, text: Text, datafolder: str) -> dict[str, Any]:
    run = engine.run(text.run)
    tokenizer, data = engine.tokenizer(run), data_of(run, datafolder)
    ids = text.all_ids(tokenizer)
    if data is None:
        raise DataError(f"The data of {run.name} is not here (any more).", "Prepare it again as it was.")
    folders = [folder for folder, _ in data.parts]
    if sum(folder.training_tokens for folder in folders if not is_indexed(folder)) > SMALL:
        command = f"wikigpt runs inspect --run {quote(run.name)} --show passages"
        raise DataError("The training text is not indexed yet.", f"Do it once: {command}")
    found = passages_of(ids, [Passages(folder) for folder in folders], tokenizer, PASSAGE)
    return {"passages": [asdict(one) for one in found], "shortest": PASSAGE}


def data_of(run: Run, datafolder: str) -> Data | None:
    """The very data that a run was trained on; None where it is not there."""
    try:
        data = find_data(datafolder, run.config.data)
    except DataError:
        return None
    return data if data.hash == run.config.data_hash else None
