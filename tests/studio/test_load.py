"""Many at once: 50 readers that take their time, 200 requests, some that leave half-way; and nothing is left of them."""

import gc
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest
from test_server import asking, wait_for

from wikigpt.runs import read_run
from wikigpt.studio import board

pytestmark = pytest.mark.slow


def slow_reader(port: int, seconds: float) -> None:
    """Takes a little at a time."""
    there = asking(port, {"run": "g", "prompt": "La", "max_gen": 200, "temperature": 2.0})
    there.settimeout(30)
    end = time.monotonic() + seconds
    while time.monotonic() < end and there.recv(512):
        time.sleep(0.05)
    there.close()


def test_fifty_slow_readers_and_two_hundred_requests(served, engine):
    process, chance = psutil.Process(), random.Random(1)
    url = f"{served.url}/api/generate"
    body = {"run": "g", "prompt": "La", "max_gen": 20}
    assert httpx2.post(url, json=body).status_code == 200  # what is loaded once is loaded
    gc.collect()
    before = (process.num_fds(), process.memory_info().rss)
    readers = [threading.Thread(target=slow_reader, args=(served.port, 6.0)) for _ in range(50)]
    for one in readers:
        one.start()
    codes = []

    def one(number: int) -> None:
        if number % 10 == 0:  # leaves in the middle
            there = asking(served.port, body | {"max_gen": 4096, "temperature": 5.0})
            time.sleep(chance.random() / 5)
            there.close()
            return
        for _ in range(200):
            answer = httpx2.post(url, json=body, timeout=60)
            codes.append(answer.status_code)
            if answer.status_code != 429:
                assert '"end"' in answer.text
                return
            time.sleep(0.05)
        raise AssertionError("its turn never came")

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(one, range(200)))
        assert httpx2.get(f"{served.url}/healthz", timeout=5).status_code == 200  # the rest of it answers meanwhile
    for reader in readers:
        reader.join(60)
    wait_for(lambda: not engine.models.tickets)
    assert codes.count(200) == 180 and set(codes) <= {200, 429} and 429 in codes
    wait_for(lambda: served.connections() == 0, 30)
    gc.collect()
    after = (process.num_fds(), process.memory_info().rss)
    assert after[0] <= before[0] + 5 and after[1] < before[1] + 150e6, (before, after)
    assert threading.active_count() < 60


def test_many_live_pages_look_once(served, monkeypatch):
    """Fifty pages that only watch make the runs be looked through once a second, not fifty times."""
    looked = []
    monkeypatch.setattr(board, "read_run", lambda path: looked.append(path) or read_run(path))
    tabs = []
    for _ in range(50):
        there = socket.create_connection(("127.0.0.1", served.port))
        there.sendall(f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        tabs.append(there)
    assert all(b'"runs"' in there.recv(65536) or b'"runs"' in there.recv(65536) for there in tabs)
    began = time.monotonic()
    time.sleep(3)
    assert len(looked) <= 2 * (2 + (time.monotonic() - began) / board.FRESH) + 4
    for there in tabs:
        there.close()
    wait_for(lambda: served.connections() == 0, 30)
