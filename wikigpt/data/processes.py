"""Several processes of this machine at one piece of work."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from wikigpt.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, which end at once with Ctrl-C, and when this process dies. Raises DataError where one of them was
    killed."""
    # Not forked: a fork copies whatever locks the threads of this process hold at that moment.
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        problem = "A process was killed, perhaps for want of memory."
        raise DataError(problem, "The same command goes on; give it fewer --workers.") from error
    except KeyboardInterrupt:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # what it did not finish is done again
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[Item, Result]]:
    """Each item and what `work` makes of it, in order; in this process where there is one worker, else at most two for each
    are under way."""
    if min(workers, len(items)) <= 1:
        yield from ((item, work(item)) for item in items)
        return
    with processes(min(workers, len(items))) as pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _begin() -> None:
    """Ctrl-C is the business of the process that started us; when that one dies, so do we."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        while parent is not None and parent.is_alive():
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
