"""The part of OpenAI's API that a base model has: /v1/models and /v1/completions, for whatever speaks it already.

prompt ──> ids ──> tokens ──> up to a stop ──> {"choices": [...]}, at once or as server-sent events
"""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from torch import Tensor

from wikigpt.errors import ConfigError, RunError
from wikigpt.generate import Sampling, prompt_ids
from wikigpt.runs import Run, checkpoints, step_of
from wikigpt.studio.asked import LONGEST, MOST_TOKENS, Reader, Seed, Stream, checked_ids
from wikigpt.studio.engine import Engine, Loaded
from wikigpt.studio.turns import one_by_one
from wikigpt.tokenizer import Tokenizer

Load = Callable[[], Awaitable[Loaded]]
Prompt = Annotated[str, Field(max_length=LONGEST)]
Ids = Annotated[list[int], Field(max_length=LONGEST)]
MOST_TOGETHER = 4 * MOST_TOKENS  # tokens of all choices of a request
UNSUPPORTED = ("suffix", "logit_bias", "presence_penalty", "frequency_penalty")  # not but at their default


class Completion(BaseModel):
    """As https://platform.openai.com/docs/api-reference/completions has it; `top_k` is ours. Unknown fields are ignored."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(max_length=300)
    prompt: (
        Prompt | Ids | Annotated[list[Prompt], Field(max_length=20)] | Annotated[list[Ids], Field(max_length=20)]
    ) = ""
    max_tokens: int | None = Field(16, ge=0, le=MOST_TOKENS)
    temperature: float | None = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float | None = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    n: int | None = Field(1, ge=1, le=8)
    best_of: int | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = False
    stop: Prompt | Annotated[list[Prompt], Field(max_length=4)] | None = None
    seed: Seed | None = None

    @property
    def stops(self) -> list[str]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in given if stop]

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each may be a text or ids."""
        whole = self.prompt
        if isinstance(whole, str) or (whole and isinstance(whole[0], int)):
            return [whole]
        return list(whole) or [""]  # type: ignore[arg-type]

    def check(self) -> None:
        """Raises ConfigError for what a client may ask and we cannot do."""
        for name in UNSUPPORTED:
            if getattr(self, name, None):
                raise ConfigError(f"{name} is not there.", "Leave it out.")
        if self.best_of not in (None, self.n or 1):
            raise ConfigError("best_of is not there.", "Leave it out, or ask for n.")
        wanted = len(self.prompts) * (self.n or 1) * (self.max_tokens or 0)
        if wanted > MOST_TOGETHER:
            raise ConfigError(f"{wanted:,} tokens are too many for one request.", f"Ask for {MOST_TOGETHER:,} at most.")


@dataclass(frozen=True)
class Piece:
    """A token of an answer: its text, and what belongs into `logprobs` (no token: what was left of a broken character)."""

    text: str
    token: str
    logprob: float | None = None
    top: dict[str, float] | None = None


class Stops:
    """Lets pieces through up to where a stop begins. What may be the beginning of one waits until that is decided."""

    def __init__(self, stops: list[str]) -> None:
        self._stops, self._held = stops, list[Piece]()
        self.met = False

    def add(self, piece: Piece) -> list[Piece]:
        """Pieces that may go out."""
        self._held.append(piece)
        text = "".join(held.text for held in self._held)
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.met = True
            out, left = self._take(min(found))
            return out + ([replace(self._held[0], text=self._held[0].text[:left])] if left else [])
        waiting = max((n for stop in self._stops for n in range(len(stop)) if text.endswith(stop[:n])), default=0)
        return self._take(len(text) - waiting)[0]

    def _take(self, characters: int) -> tuple[list[Piece], int]:
        """Takes as many whole pieces as stand in so many characters; and how many are left of these."""
        out = []
        while self._held and len(self._held[0].text) <= characters:
            characters -= len(self._held[0].text)
            out.append(self._held.pop(0))
        return out, characters

    def rest(self) -> list[Piece]:
        """What had waited for a stop that did not come."""
        held, self._held = self._held, []
        return [] if self.met else held


def router(engine: Engine) -> APIRouter:
    """OpenAI's API."""
    api = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])

    @api.get("/models")
    def models() -> dict[str, Any]:
        """Runs with a checkpoint, and each of these as RUN@STEP."""
        return {"object": "list", "data": _models(engine)}

    @api.get("/models/{model:path}")
    def model(model: str) -> dict[str, Any]:
        """One of them."""
        found = next((one for one in _models(engine) if one["id"] == model), None)
        if found is None:
            raise RunError(f"There is no model {model!r}.", "GET /v1/models lists them.")
        return found

    @api.post("/completions", response_model=None)
    async def completions(asked: Completion, request: Request) -> Stream | JSONResponse:
        """Goes on with a prompt."""
        asked.check()
        run, folder = await run_in_threadpool(engine.find, *named(engine, asked.model))
        answer = Answer(run, await run_in_threadpool(engine.tokenizer, run), asked)
        load = partial(run_in_threadpool, engine.load, run, folder)
        if asked.stream:
            return Stream(engine.models.ticket(), answer.events(load), last="[DONE]")
        with engine.models.ticket() as ticket:
            async with ticket.turn:
                return JSONResponse(await answer.whole(load, request))

    return api


def named(engine: Engine, model: str) -> tuple[str, str]:
    """A run and one of its checkpoints, by RUN or RUN@STEP (a run's own name may have an @ in it)."""
    if "@" not in model or model in engine.names():
        return model, "latest"
    run, _, step = model.rpartition("@")
    return run, step


def _models(engine: Engine) -> list[dict[str, Any]]:
    found = []
    for run in engine.names():
        saved = checkpoints(engine.model_dir / run)
        names = [run, *(f"{run}@{step_of(one)}" for one in saved)]
        for name, folder in zip(names, [*saved[:1], *saved], strict=False):
            created = int(folder.stat().st_mtime)
            found.append({"id": name, "object": "model", "created": created, "owned_by": "wikigpt"})
    return sorted(found, key=lambda one: -one["created"])


class Answer:
    """The answer to one request: a choice for each prompt and each of `n`."""

    def __init__(self, run: Run, tokenizer: Tokenizer, asked: Completion) -> None:
        self.asked, self.tokenizer = asked, tokenizer
        self.rows = [self._ids(prompt) for prompt in asked.prompts for _ in range(asked.n or 1)]
        self.seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        self.id, self.created, self.written = f"cmpl-{secrets.token_hex(12)}", int(time.time()), 0
        context = run.config.model.context_length
        if asked.echo and asked.logprobs is not None and (longest := max(map(len, self.rows))) > context:
            raise ConfigError(
                f"The prompt has {longest:,} tokens, and the context {context:,}.", "Send less, or no echo."
            )

    def _ids(self, prompt: str | list[int]) -> list[int]:
        ids = prompt_ids(self.tokenizer, prompt) if isinstance(prompt, str) else checked_ids(prompt, self.tokenizer)
        return ids or [self.tokenizer.end_of_text]

    async def events(self, load: Load) -> AsyncIterator[dict[str, Any]]:
        """A chunk for what comes with each token, then one with the reason why it ended."""
        self.loaded = await load()
        for index, ids in enumerate(self.rows):
            offset, reason = 0, None
            async for pieces, reason in self._choice(index, ids):
                if pieces or reason:
                    yield self._chunk(index, pieces, offset, reason)
                offset += sum(len(piece.text) for piece in pieces)
        if (self.asked.stream_options or {}).get("include_usage"):
            yield self._head() | {"choices": [], "usage": self._usage()}

    async def whole(self, load: Load, request: Request) -> dict[str, Any]:
        """All choices at once. Raises ClientDisconnect where whoever asked has gone away."""
        self.loaded = await load()
        choices = []
        for index, ids in enumerate(self.rows):
            made, why = list[Piece](), None
            async for pieces, reason in self._choice(index, ids):
                made += pieces
                why = reason
                if await request.is_disconnected():
                    raise ClientDisconnect
            choices.append(self._chunk(index, made, 0, why)["choices"][0])
        return self._head() | {"choices": choices, "usage": self._usage()}

    async def _choice(self, index: int, ids: list[int]) -> AsyncIterator[tuple[list[Piece], str | None]]:
        """Pieces as they come, the reason of the end with the last."""
        asked, reader, stops = self.asked, Reader(self.tokenizer), Stops(self.asked.stops)
        if asked.echo:
            yield await run_in_threadpool(self._prompt, ids, reader), None
        else:
            for token in ids:  # a character that the prompt began
                reader.text(token)
        sampling = self._sampling(index)
        made = 0
        async for token, logits_V in one_by_one(self.loaded.tokens(ids, sampling)):
            made += 1
            self.written += 1
            log_probs_V = logits_V.float().log_softmax(-1).cpu() if asked.logprobs is not None else None
            out = stops.add(self._piece(token, reader.text(token), log_probs_V))
            if stops.met:
                break
            yield out, None
        else:
            out = stops.rest()
        if not stops.met and (rest := reader.rest()):
            out = [*out, Piece(rest, "")]
        yield out, "length" if made == sampling.max_gen and not stops.met else "stop"

    def _sampling(self, index: int) -> Sampling:
        asked = self.asked
        top_p = None if asked.top_p in (None, 1.0) else asked.top_p
        temperature = 1.0 if asked.temperature is None else asked.temperature
        return Sampling(
            16 if asked.max_tokens is None else asked.max_tokens, temperature, asked.top_k, top_p, self.seed + index
        )

    def _piece(self, token: int, text: str, log_probs_V: Tensor | None) -> Piece:
        name = spelled(self.tokenizer, token)
        if log_probs_V is None:
            return Piece(text, name)
        assert self.asked.logprobs is not None
        own = log_probs_V[token].item()
        best = log_probs_V.topk(min(self.asked.logprobs, len(log_probs_V)))
        likely = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return Piece(text, name, own, {spelled(self.tokenizer, n): value for n, value in likely} | {name: own})

    def _prompt(self, ids: list[int], reader: Reader) -> list[Piece]:
        if self.asked.logprobs is None:
            return [self._piece(token, reader.text(token), None) for token in ids]
        rows = [None, *self.loaded.log_probs_TV(ids)[:-1]]
        return [self._piece(token, reader.text(token), row) for token, row in zip(ids, rows, strict=True)]

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.asked.model,
            "system_fingerprint": self.loaded.name,
        }

    def _chunk(self, index: int, pieces: list[Piece], offset: int, reason: str | None) -> dict[str, Any]:
        logprobs = None
        if self.asked.logprobs is not None:
            named = [piece for piece in pieces if piece.token]
            logprobs = {
                "tokens": [piece.token for piece in named],
                "token_logprobs": [piece.logprob for piece in named],
                "top_logprobs": [piece.top for piece in named],
                "text_offset": list(accumulate((len(piece.text) for piece in named), initial=offset))[:-1],
            }
        text = "".join(piece.text for piece in pieces)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return self._head() | {"choices": [choice]}

    def _usage(self) -> dict[str, int]:
        read = sum(map(len, self.rows)) // (self.asked.n or 1)
        return {"prompt_tokens": read, "completion_tokens": self.written, "total_tokens": read + self.written}


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """A token as OpenAI spells it: its text, or its bytes where it is a part of a character."""
    drawn = tokenizer.decode_bytes([token])
    try:
        return drawn.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in drawn)
