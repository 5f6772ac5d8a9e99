"""Several processes of this machine at one piece of work."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from wikigpt.errors import DataError


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


def _begin() -> None:
    """Ctrl-C is the business of the process that started us; when that one dies, so do we."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        while parent is not None and parent.is_alive():
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
