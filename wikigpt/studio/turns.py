"""Whose turn it is: a few requests are worked on at once, some wait, and whoever comes after these is told to come back.

request ──> Ticket ──> turn ──> work in a thread, or items one at a time          too many ──> Busy (HTTP 429)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

AT_ONCE = 2  # two sides of a comparison
WAITING = 16
T = TypeVar("T")


class Busy(Exception):
    """Too many wait already."""


class Row:
    """Requests that want the same: a model, or files. Those of the other row do not wait for them."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.tickets: set[Ticket] = set()

    def ticket(self) -> "Ticket":
        """A place in the row. Raises Busy where there is none."""
        if len(self.tickets) >= AT_ONCE + WAITING:
            raise Busy
        return Ticket(self)

    async def work(self, do: Callable[..., T], *given: Any) -> T:
        """Does something in its turn, in a thread. Raises Busy."""
        with self.ticket() as ticket:
            async with ticket.turn:
                return await run_in_threadpool(do, *given)


class Ticket:
    """A request's place in its row, until it is given back."""

    def __init__(self, row: Row) -> None:
        self._row = row
        row.tickets.add(self)

    @property
    def turn(self) -> asyncio.Semaphore:
        """Waits for its turn, and has it."""
        return self._row.turns

    def give_back(self) -> None:
        """Twice is once."""
        self._row.tickets.discard(self)

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


async def one_by_one(items: Iterator[T]) -> AsyncIterator[T]:
    """Each item made in a thread when it is asked for. A thread at work is waited for, also where nobody wants it now."""
    done = object()
    while (item := await run_in_threadpool(next, items, done)) is not done:
        yield item  # type: ignore[misc]
