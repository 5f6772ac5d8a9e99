"""What pages ask for, checked, and how a stream of answers goes out.

JSON ──> Text ──> ids          items ──> Stream ──> server-sent events
"""

import codecs
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi.responses import StreamingResponse
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send
from torch import Tensor

from wikigpt.analysis.inside import shown
from wikigpt.errors import ConfigError, WikiGPTError
from wikigpt.generate import prompt_ids
from wikigpt.studio.turns import Ticket
from wikigpt.tokenizer import Tokenizer

LONGEST = 20_000  # characters of a text
MOST_TOKENS = 4_096  # that are written for one request
ALTERNATIVES = 8
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Asked(BaseModel):
    """Fields of other names are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Checkpoint(Asked):
    """Who is asked: latest, best or a step of a run."""

    run: str = Field(max_length=300)
    checkpoint: str = Field("latest", max_length=40)


class Text(Checkpoint):
    """A text as a checkpoint sees it: a prompt, and tokens that already stand behind it."""

    prompt: str = Field("", max_length=LONGEST)
    ids: list[int] = Field(default=[], max_length=MOST_TOKENS)

    def all_ids(self, tokenizer: Tokenizer) -> list[int]:
        """Raises ConfigError for ids that the tokenizer does not have."""
        return prompt_ids(tokenizer, self.prompt) + checked_ids(self.ids, tokenizer)


def checked_ids(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """Raises ConfigError for ids that the tokenizer does not have."""
    if wrong := [n for n in ids if not 0 <= n < tokenizer.vocab_size]:
        raise ConfigError(f"There is no token {wrong[0]}.", f"This model has {tokenizer.vocab_size:,}, from 0 on.")
    return ids


class Reader:
    """Ids to what shows when they come: a character that is spread over several comes with the last."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._decoder = tokenizer, codecs.getincrementaldecoder("utf-8")(errors="replace")

    def text(self, token: int) -> str:
        """End-of-text, which begins and ends every article, shows as nothing."""
        if token == self._tokenizer.end_of_text:
            return self.rest()
        return self._decoder.decode(self._tokenizer.decode_bytes([token]))

    def rest(self) -> str:
        """What is left of a character that never came to its end."""
        left = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return left


def thought(tokenizer: Tokenizer, token: int, log_probs_V: Tensor, alternatives: int = ALTERNATIVES) -> dict[str, Any]:
    """What a model thought of a token: bits, probability, its place among all, and the likeliest [id, text, probability]."""
    own = log_probs_V[token]
    best = log_probs_V.topk(min(alternatives, len(log_probs_V)))
    likely = zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
    return {
        "bits": round(-own.item() / math.log(2), 4),
        "p": own.exp().item(),
        "rank": 1 + int((log_probs_V > own).sum()),
        "alternatives": [[n, shown(tokenizer, n), p] for n, p in likely],
    }


class Stream(StreamingResponse):
    """Server-sent events of a request that has a ticket, which is given back however it ends. A mistake that shows only on
    the way is the last event."""

    def __init__(self, ticket: Ticket, events: AsyncIterator[Any], last: str = "") -> None:
        self._ticket, self._events = ticket, self._in_turn(events, last)
        super().__init__(self._events, media_type="text/event-stream")

    async def _in_turn(self, events: AsyncIterator[Any], last: str) -> AsyncGenerator[str, None]:
        try:
            async with self._ticket.turn:
                async for event in events:
                    yield sse(event)
        except (WikiGPTError, OSError) as error:
            yield sse({"error": {"message": " ".join(str(error).split()), "type": "server_error"}})
        except Exception as error:
            logger.opt(exception=error).error("studio: this should not have happened")
            said = f"This should not have happened ({type(error).__name__}). Please report it."
            yield sse({"error": {"message": said, "type": "server_error"}})
        if last:
            yield f"data: {last}\n\n"

    async def stream_response(self, send: Send) -> None:
        """Whoever goes away in the middle leaves nothing open behind."""
        async with aclosing(self._events):
            await super().stream_response(send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ticket.give_back()


def sse(event: Any) -> str:
    """One event; JSON has no line break of its own."""
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
