"""No rank waits for one that is gone.

each rank ──> a sign of life in the store, twice a second ──> the one before it looks for it
                                                              silent for ten seconds: "gone" ──> all end
"""

import os
import socket
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

from loguru import logger

UNREACHABLE = "The first machine, which holds the others together, is out of reach."
AGAIN = "The same command (without --fresh) goes on from the last checkpoint."


class Watch(threading.Thread):
    """Each rank leaves a sign of life in the store and looks for that of the next one. Who finds it silent says so in the
    store, and who ends with an error does it itself. The others then end within seconds, wherever they are: one that waits
    for another in the middle of a calculation can be reached in no other way. All bounds are counted in beats of its own, so
    that a machine that sleeps misses nobody."""

    BEAT = 0.5  # seconds
    SILENCE = 20  # beats without a sign of life, by which a rank counts as gone
    GRACE = 10  # beats to end of one's own accord, with the same error as all others

    def __init__(self, rank: int, size: int, store: Any, elsewhere: bool, speaks: bool, may_speak: bool) -> None:
        """`store` is shared by all, and may be kept `elsewhere` than by the first rank. One rank `speaks`; where that is the
        one that is gone, others may."""
        super().__init__(daemon=True)
        self.rank, self.size, self.elsewhere = rank, size, elsewhere
        self.speaks, self.may_speak = speaks, may_speak
        self.store = store.clone()
        self.store.set_timeout(timedelta(seconds=self.BEAT * self.SILENCE))
        self.left = threading.Event()  # this rank is about to end
        self.found = threading.Event()  # another one is gone
        self.verdict = ""
        self.looked = 0  # how often it has asked the store

    def start(self) -> None:
        super().start()
        threading.Thread(target=self._watch_itself, daemon=True).start()

    def _watch_itself(self) -> None:
        """A store whose network is cut does not answer, and waiting for it has no bound."""
        stuck, before = 0, 0
        while not self.left.wait(self.BEAT) and stuck < 1.5 * self.SILENCE:
            stuck, before = (stuck + 1, before) if self.looked == before else (0, self.looked)
        if not self.left.is_set():
            self._end(f"0 {UNREACHABLE}")

    def run(self) -> None:
        silent, before = 0, b""
        neighbour = (self.rank + 1) % self.size
        try:
            while not self.left.wait(self.BEAT):
                self.looked += 1
                self.store.set(f"beat/{self.rank}", f"{self.looked} {socket.gethostname()}")
                if self.store.check(["gone"]):
                    return self._end(self.store.get("gone").decode())
                sign = self.store.get(f"beat/{neighbour}") if self.store.check([f"beat/{neighbour}"]) else b""
                alive = sign != before or sign in (b"", b"done")  # before its first sign it is still starting
                silent, before = (0, sign) if alive else (silent + 1, before)
                if silent >= self.SILENCE:
                    host = sign.partition(b" ")[2].decode()
                    self._say_gone(f"{neighbour} Rank {neighbour} on {host} has died (no sign of life).")
        except RuntimeError:  # the store is gone, and with it the machine that holds it
            if not self.left.wait(3):
                self._end(f"0 {UNREACHABLE}")

    def _say_gone(self, verdict: str) -> None:
        self.store.compare_set("gone", "", verdict)  # the first to find out is right

    def _end(self, verdict: str) -> None:
        """Ends this process where it does not end by itself."""
        self.verdict = verdict
        self.found.set()
        if not self.left.wait(self.GRACE * self.BEAT):
            self._speak()
            os._exit(1)

    def _speak(self) -> None:
        """Says who is gone, where it has not said so itself."""
        if sys.stderr.isatty():
            print("\x1b[?25h", end="", file=sys.stderr)  # the live view has hidden the cursor
        gone, _, said = self.verdict.partition(" ")
        if said and (self.may_speak if gone == "0" else self.speaks):
            logger.error(f"{said} {AGAIN}")
        sys.stderr.flush()

    def ended(self, error: BaseException) -> None:
        """Takes note of an error that ends this rank. Where it came of another's end, ends for that reason."""
        if _of_connection(error) and self.found.wait(3 * self.SILENCE * self.BEAT):
            self.left.set()
            self._speak()
            raise SystemExit(1) from None
        if not self.found.is_set():
            with suppress(RuntimeError):
                self._say_gone(f"{self.rank} ")

    def stop(self) -> None:
        """To be called in any case. The first rank goes last where its process holds the store."""
        self.left.set()
        self.join(2)
        if self.is_alive():  # the store does not answer any more
            return
        with suppress(RuntimeError):
            self.store.set(f"beat/{self.rank}", "done")
            self.store.set(f"done/{self.rank}", "")
            if self.rank == 0 and not self.elsewhere:
                self.store.wait([f"done/{rank}" for rank in range(self.size)], timedelta(seconds=5))


def _of_connection(error: BaseException) -> bool:
    """Whether an error says that another process does not answer."""
    said = f"{type(error).__name__} {error}".lower()
    words = ("gloo", "nccl", "connection", "distbackend", "distnetwork", "socket")
    return isinstance(error, RuntimeError) and any(word in said for word in words)
