"""The server as a process and on the wire: how it begins and ends, and readers that go away or take nothing."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx2
import pytest
from helpers import wikigpt
from on_loopback import running

from wikigpt.errors import ConfigError
from wikigpt.generate import generate_tokens
from wikigpt.studio import guard, server

LONG = {"run": "g", "prompt": "La", "max_gen": 4096, "temperature": 5.0}


def wait_for(what, seconds: float = 20.0):
    """Until it is so."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def asking(port: int, body: dict, path: str = "/api/generate") -> socket.socket:
    """A connection that has asked and has read nothing yet."""
    there = socket.create_connection(("127.0.0.1", port))
    content = json.dumps(body).encode()
    head = ["POST " + path + " HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    head += [f"Content-Length: {len(content)}", "", ""]
    there.sendall("\r\n".join(head).encode() + content)
    return there


@pytest.fixture
def slowly(engine, monkeypatch):
    """Every token takes its time, and is counted; no end-of-text ends it, which at this temperature is drawn any time."""
    made = []
    load = engine.load

    def patient(*given):
        loaded = load(*given)
        if not hasattr(loaded, "patient"):

            def counted(prompt, sampling):
                for token in generate_tokens(loaded.model, list(prompt), -1, sampling):
                    time.sleep(0.005)
                    made.append(token.id)
                    yield token

            loaded.tokens, loaded.patient = counted, True
        return loaded

    monkeypatch.setattr(engine, "load", patient)
    return made


@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions"])
def test_a_closed_tab_stops_its_generation(served, engine, slowly, path):
    body = LONG if path == "/api/generate" else {"model": "g", "max_tokens": 4096, "temperature": 5, "stream": True}
    there = asking(served.port, body, path)
    wait_for(lambda: len(slowly) > 5)
    there.close()
    wait_for(lambda: not engine.models.tickets)
    time.sleep(0.1)
    made = len(slowly)
    time.sleep(0.3)
    assert len(slowly) == made < 3000


def test_one_who_asks_for_all_at_once_and_leaves_stops_it_too(served, engine, slowly):
    there = asking(served.port, {"model": "g", "max_tokens": 4096, "temperature": 5}, "/v1/completions")
    wait_for(lambda: len(slowly) > 5)
    there.close()
    wait_for(lambda: not engine.models.tickets)
    assert len(slowly) < 3000


def test_one_who_leaves_while_waiting_gives_the_place_back(served, engine, slowly):
    working = [asking(served.port, LONG) for _ in range(2)]
    wait_for(lambda: len(slowly) > 5)
    waiting = asking(served.port, LONG)
    wait_for(lambda: len(engine.models.tickets) == 3)
    waiting.close()
    wait_for(lambda: len(engine.models.tickets) == 2)
    for one in working:
        one.close()
    wait_for(lambda: not engine.models.tickets)


def test_a_reader_that_takes_nothing_is_dropped(app, monkeypatch):
    """Its connection is aborted, what was kept for it is let go, and others are served meanwhile."""
    paused = []
    pause = server.Protocol.pause_writing
    monkeypatch.setattr(server.Protocol, "pause_writing", lambda self: (paused.append(time.monotonic()), pause(self)))
    monkeypatch.setattr(server, "STALLED", 0.5)
    with running(app) as served:
        there = socket.socket()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        there.connect(("127.0.0.1", served.port))
        there.settimeout(5)
        wait_for(lambda: served.connections() == 1)
        ask = f"GET /web/uplot/uPlot.iife.min.js HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode()
        while not paused:  # megabytes fit into what the kernel keeps
            there.sendall(ask * 20)
            time.sleep(0.01)
        assert httpx2.get(f"{served.url}/healthz").status_code == 200
        wait_for(lambda: served.connections() == 0)
        assert time.monotonic() - paused[-1] >= 0.5
        there.close()


def test_a_reader_that_is_only_slow_is_kept(app, house, monkeypatch):
    """Far longer than one may take nothing, but it takes a little all the time: it gets everything."""
    shutil.copytree(house / "models/g", house / "models/long")
    row = '{"kind": "train", "step": %d, "tokens": 1, "loss": 3.5}\n'
    (house / "models/long/metrics.jsonl").write_text("".join(row % step for step in range(1, 100_001)))
    looked = []
    look = server.Protocol._drop_the_stalled
    monkeypatch.setattr(server.Protocol, "_drop_the_stalled", lambda *given: (looked.append(1), look(*given)))
    monkeypatch.setattr(server, "STALLED", 0.3)
    try:
        with running(app) as served:
            there = socket.socket()
            there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            there.connect(("127.0.0.1", served.port))
            there.sendall(f"GET /api/runs/long/curves HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
            got = there.recv(65536)
            size = int(re.search(rb"content-length: (\d+)", got)[1]) + got.index(b"\r\n\r\n") + 4
            total = len(got)
            while more := there.recv(65536) if total < size else b"":
                total += len(more)
                time.sleep(0.01)
            there.close()
        assert total == size > 8e6 and len(looked) > 2
    finally:
        shutil.rmtree(house / "models/long")


def test_one_who_asks_nothing_is_dropped(app, monkeypatch):
    monkeypatch.setattr(server, "IDLE", 0.3)
    monkeypatch.setattr(guard, "PATIENCE", 0.3)
    with running(app) as served:
        silent, half = (socket.create_connection(("127.0.0.1", served.port)) for _ in range(2))
        half.sendall(b"GET / HTTP/1.1\r\nHost: 127.")
        body = socket.create_connection(("127.0.0.1", served.port))
        head = f"POST /api/title HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
        body.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        second = socket.create_connection(("127.0.0.1", served.port))  # one whole request, then a part of another
        second.sendall(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        got = b""
        while b'"ok"' not in got:  # head and body may come apart
            got += second.recv(4096)
        second.sendall(b"G")
        wait_for(lambda: served.connections() == 0)
        assert b"400" in body.recv(100)
        for one in (silent, half, body, second):
            one.close()


def test_one_of_several_prompts_is_enough_to_see_that_nobody_waits(served, engine, slowly):
    body = {"model": "g", "prompt": ["La"] * 20, "max_tokens": 800, "temperature": 5}
    there = asking(served.port, body, "/v1/completions")
    wait_for(lambda: len(slowly) > 5)
    there.close()
    wait_for(lambda: not engine.models.tickets)
    assert len(slowly) < 3000


def test_a_port_that_is_taken_and_a_host_that_is_not_here(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with server.listen("127.0.0.1", 0) as opened:
        assert wikigpt(f"studio --port {opened.getsockname()[1]}", tmp_path) == 2
        assert "Give another --port" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        server.listen("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--host 0.0.0.0", "there is no token"),
        ("--host :: --port 0", "there is no token"),
        ("--token short", "too easily guessed"),
        ("--token aaaaaaaaaaaaaaa;aaaaaaa", "too easily guessed"),
        ("--port 99999", "port is 99999"),
        ("--port -1", "port is -1"),
        ("--threads 0", "threads is 0"),
        ("--device tpu --port 0", "There is no device"),
    ],
)
def test_a_mistake_is_one_line(capsys, tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WIKIGPT_TOKEN", raising=False)
    assert wikigpt(f"studio {flags}", tmp_path) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_addresses_can_be_opened():
    with server.listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        assert server.address(opened, "127.0.0.1") == f"http://127.0.0.1:{port}"
        assert server.address(opened, "::1") == f"http://[::1]:{port}"
        assert server.address(opened, "0.0.0.0") == f"http://{socket.gethostname()}:{port}"


@pytest.mark.parametrize(
    "sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["ctrl-c", "term"]
)
def test_the_command_from_its_beginning_to_its_end(house, data, sign):
    """With a live page open, as it is when someone looks."""
    command = [sys.executable, "-m", "wikigpt", "studio", "--port", "0", "--host", "0.0.0.0"]
    environment = os.environ | {"WIKIGPT_TOKEN": "abcdefghij0123456789", "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, cwd=house, stderr=subprocess.PIPE, text=True, env=environment) as process:
        line = process.stderr.readline()
        port = int(re.search(r":(\d+)/\?token=abcdefghij0123456789", line)[1])
        own = {"authorization": "Bearer abcdefghij0123456789"}
        with httpx2.stream("GET", f"http://127.0.0.1:{port}/api/live", headers=own) as live:
            assert '"g"' in next(live.iter_lines())
            process.send_signal(sign)
            began = time.monotonic()
            code = process.wait(15)
        rest = process.stderr.read()
    assert time.monotonic() - began < 10 and "Traceback" not in rest, rest
    assert code == 0 if sign == signal.SIGINT else code in (0, -signal.SIGTERM)


def test_without_its_libraries_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    for name in ("uvicorn", "fastapi"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            assert wikigpt("studio", tmp_path) == 2
            assert f"needs {name}" in capsys.readouterr().err


def test_help_needs_no_server_library(capsys):
    with pytest.raises(SystemExit):
        wikigpt("studio --help", None)
    assert "--token" in capsys.readouterr().out
