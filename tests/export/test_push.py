"""Pushing to a hub on loopback with the real client: what is sent, who may see it, and what happens when it breaks off."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loopback_hub import Hub
from test_huggingface import FILES

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def hub(monkeypatch, house):
    """A hub that the client in this process talks to."""
    from huggingface_hub import constants

    with Hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        yield hub


def on_disk(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_pushed_is_exactly_the_export_and_private(hub, at_house, house, exported, capsys):
    (house / "exports" / "secret.txt").write_text("not for the hub")
    assert at_house("export --run r --push someone/wiki --json") == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["url"] == f"{hub.url}/someone/wiki" and f"{hub.url}/someone/wiki (private model)" not in captured.out
    assert hub.files("someone/wiki") == on_disk(exported) and set(hub.files("someone/wiki")) == FILES
    assert hub.private["model", "someone/wiki"]
    assert hub.large and hub.files("someone/wiki")["model.safetensors"] in hub.large.values()  # through large storage
    card = hub.files("someone/wiki")["README.md"].decode()
    assert "vllm serve someone/wiki" in card and "USER/" not in card
    lines = captured.err.split("to use it:\n\n")[1].strip().splitlines()
    assert len(lines) == 3 and 'pipeline("text-generation", model="someone/wiki")' in lines[1]
    assert "hf_right" not in captured.err + captured.out


def test_again_changes_what_differs_and_removes_what_is_stale(hub, at_house, exported, capsys):
    """model.safetensors of an earlier push would win over the parts of a later one."""
    assert at_house("export --run r --push someone --public --gguf f16") == 0
    name = "someone/wikigpt-es-0.1M"
    assert not hub.private["model", name] and "wikigpt-es-0.1M-F16.gguf" in hub.files(name)
    commit = hub.branches["model", name]["main"]
    hub.commits["model", name][commit]["notes.txt"] = b"somebody's own"
    hub.requests.clear()
    assert at_house("export --run r --push someone --public --max_shard_size 40KB") == 0
    assert hub.files(name) == on_disk(exported) | {"notes.txt": b"somebody's own"}
    assert "model.safetensors" not in hub.files(name) and "Modelfile" not in hub.files(name)
    assert "removed there, since this export lacks it: Modelfile, model.safetensors, wiki" in capsys.readouterr().err
    commit = hub.branches["model", name]["main"]
    assert (
        at_house("export --run r --push someone --public --max_shard_size 40KB") == 0
    )  # the same once more: no new commit
    assert hub.branches["model", name]["main"] == commit


def test_a_modern_model_is_pushed_again(hub, at_house, capsys):
    """It has no code of ours by which an earlier push could be known."""
    for form in ("", "--dtype bfloat16"):
        assert at_house(f"export --run m --push someone/modern {form}") == 0, capsys.readouterr().err
    card = hub.files("someone/modern")["README.md"].decode()
    assert "Qwen3ForCausalLM" in card and "trust_remote_code" not in card and "- qwen3" in card


def test_a_branch(hub, at_house, exported, capsys):
    assert at_house("export --run r --push someone/wiki") == 0
    before = hub.files("someone/wiki")
    assert at_house("export --run r --push someone/wiki --revision step-30 --dtype bfloat16") == 0
    assert hub.files("someone/wiki") == before
    assert hub.files("someone/wiki", branch="step-30") == on_disk(exported) != before
    assert 'model="someone/wiki", revision="step-30")' in capsys.readouterr().err
    card = (exported / "README.md").read_text()
    assert 'revision="step-30"' in card and "--repo_id someone/wiki --revision step-30 --input" in card


def test_a_page_becomes_a_static_space(hub, at_house, exported, capsys):
    assert at_house("export --run r --push someone/wiki --space someone/wiki-page") == 0
    files = hub.files("someone/wiki-page", "space")
    assert set(files) == {"README.md", "index.html"} and files["index.html"] == (exported / "index.html").read_bytes()
    head = files["README.md"].decode()
    assert "sdk: static" in head and "app_file: index.html" in head and "models: [someone/wiki]" in head
    assert f"{hub.url}/spaces/someone/wiki-page" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_sent_and_asks_nobody(hub, at_house, exported, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert at_house("export --run r --push someone/wiki --dry_run") == 0
    said = capsys.readouterr().err
    total = sum(len(content) for content in on_disk(exported).values())
    assert f"would push to someone/wiki (private model): {len(FILES)} files, {total:,} bytes" in said
    size = (exported / "model.safetensors").stat().st_size
    assert re.search(rf"^ +{size:,}  model.safetensors$", said, re.MULTILINE)
    assert hub.requests == []


def test_a_repository_that_is_there_keeps_its_visibility(hub, at_house, capsys):
    """What is public is not written to unasked; --public makes public what was private."""
    assert at_house("export --run r --push someone/wiki") == 0
    assert at_house("export --run r --push someone/wiki --public") == 0
    assert not hub.private["model", "someone/wiki"]
    capsys.readouterr()
    commit = hub.branches["model", "someone/wiki"]["main"]
    assert at_house("export --run r --push someone/wiki --dtype bfloat16") == 2
    assert "someone/wiki is there and is public. Add --public" in one_line(capsys)
    assert hub.branches["model", "someone/wiki"]["main"] == commit


def test_what_is_refused_makes_nothing_public(hub, at_house, capsys):
    """--public on a private repository: of something else, and where the commit is refused."""
    hub.commit("model", "someone/secret", "main", {"diary.txt": b"mine"})
    hub.private["model", "someone/secret"] = True
    assert at_house("export --run r --push someone/secret --public --revision new") == 2
    assert "someone/secret holds what is no export (diary.txt)" in one_line(capsys)
    assert hub.private["model", "someone/secret"] and set(hub.branches["model", "someone/secret"]) == {"main"}
    assert at_house("export --run r --push someone/wiki") == 0
    hub.refuse = {"/commit/": 413}
    assert at_house("export --run r --push someone/wiki --public --dtype bfloat16") == 2
    assert hub.private["model", "someone/wiki"]


def test_what_is_no_export_is_not_written_over(hub, at_house, capsys):
    theirs = {"config.json": b"{}", "README.md": b"Llama", "model-00001-of-00009.safetensors": b"0" * 9}
    hub.commit("model", "someone/llama", "main", theirs)
    hub.commit("space", "someone/app", "main", {"README.md": b"sdk: gradio", "app.py": b""})
    for key in hub.commits:
        hub.private[key] = True
    assert at_house("export --run r --push someone/llama") == 2
    assert "someone/llama holds what is no export (config.json, model-00001-of-00009.safetensors)" in one_line(capsys)
    assert at_house("export --run r --space someone/app") == 2
    assert "someone/app holds what is no export (app.py)" in one_line(capsys)
    assert hub.files("someone/llama") == theirs and len(hub.files("someone/app", "space")) == 2


def one_line(capsys) -> str:
    """What is said after what always is."""
    lines = capsys.readouterr().err.strip().splitlines()
    (line,) = [line for line in lines if not line.startswith(("run: ", "exported: "))]
    return line


@pytest.mark.parametrize(
    "name", ["a/b/c", "some one/wiki", "someone/wi:ki", "someone/-wiki", "someone/wiki..", "ü/wiki", "/"]
)
def test_a_name_with_illegal_characters(hub, at_house, house, tmp_path, capsys, name):
    assert at_house(["export", "--run", "r", "--folder", str(tmp_path / "out"), "--push", name]) == 2
    assert "is no name of a repository. Write it as USER/NAME" in one_line(capsys)
    assert hub.requests == [] and list(tmp_path.iterdir()) == []


def test_a_token_is_needed_and_is_never_shown(hub, at_house, house, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert at_house("export --run r --push someone/name") == 2
    assert "no HF_TOKEN in the environment or in .env" in one_line(capsys)
    monkeypatch.setenv("HF_TOKEN", "hf secret\nof two lines")
    assert at_house("export --run r --push a/b") == 2
    said = one_line(capsys)
    assert "HF_TOKEN is no token" in said and "secret" not in said
    monkeypatch.delenv("HF_TOKEN")
    (house / ".env").write_text("HF_TOKEN=hf_wrong\n")
    assert at_house("export --run r --push someone/name") == 2
    said = one_line(capsys)
    assert "The hub does not know this HF_TOKEN" in said and "hf_wrong" not in said
    (house / ".env").unlink()


@pytest.mark.parametrize("role", ["read", "fineGrained"])
def test_a_token_that_may_only_read(hub, at_house, capsys, role):
    hub.role = role
    assert at_house("export --run r --push someone/name") == 2
    assert "The token 'laptop' may only read. Make one with write access" in one_line(capsys)
    assert hub.commits == {}


def test_a_hub_that_refuses(hub, at_house, capsys):
    assert at_house("export --run r --push stranger/name") == 2
    said = one_line(capsys)
    assert "This HF_TOKEN may not write to stranger/name" in said and "Nothing was published" in said
    assert at_house("export --run r --push someone/name") == 0
    capsys.readouterr()
    before = hub.files("someone/name")
    hub.refuse = {"/commit/": 413}
    assert at_house("export --run r --push someone/name --dtype bfloat16") == 2
    assert "The hub did not take someone/name" in one_line(capsys)
    assert hub.files("someone/name") == before


def test_a_card_that_the_hub_does_not_accept(hub, at_house, capsys, monkeypatch):
    from wikigpt.export import card

    monkeypatch.setattr(card, "hub_licence", lambda source: {"license": "wikipedia"})
    assert at_house("export --run r --push someone/name") == 2
    said = one_line(capsys)
    assert "Invalid metadata in README.md" in said and "license 'wikipedia' is not known" in said
    assert hub.files("someone/name") == {}


# From here on in processes of their own, as a user has them.


def push(hub, house, data, *flags, start=subprocess.run, **more):
    (house / "dataset").exists() or (house / "dataset").symlink_to(data.path.parent)
    command = [sys.executable, "-m", "wikigpt", "export", "--run", "r", "--push", "someone/wiki", *flags]
    return start(command, cwd=house, env=hub.environment(house / "hf", HF_TOKEN="hf_right"), **more)


@pytest.mark.slow
def test_a_network_that_breaks_off_in_the_middle(house, data, exported):
    """Several large files: some arrive, one does not. One line; nothing to be seen; the same command sends the rest."""
    flags = ("--max_shard_size", "40KB", "--gguf", "f32")
    with Hub() as hub:
        hub.breaks = 250_000
        broken = push(hub, house, data, *flags, capture_output=True, text=True, timeout=300)
        assert broken.returncode == 2, broken.stderr
        assert "Traceback" not in broken.stderr and "hf_right" not in broken.stderr
        *before, line = broken.stderr.strip().splitlines()
        assert [one.split(":")[0] for one in before] == ["run", "exported"], broken.stderr
        assert "Nothing of it was published; the same command goes on from there." in line
        assert hub.files("someone/wiki") == {} and hub.large
        hub.breaks = None
        sent, requests = set(hub.large), len(hub.requests)
        done = push(hub, house, data, *flags, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        puts = {path.removeprefix("/large/") for method, path, _ in hub.requests[requests:] if method == "PUT"}
        assert puts and not puts & sent and puts | sent == set(hub.large)
        assert hub.files("someone/wiki") == on_disk(exported)


@pytest.mark.slow
@pytest.mark.parametrize("after", ["/preupload/", "/large/", "/verify"])
def test_killed_in_the_middle(house, data, exported, after):
    with Hub() as hub:
        process = push(hub, house, data, start=subprocess.Popen, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not any(after in path for _, path, _ in list(hub.requests)) and time.monotonic() < end:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = hub.files("someone/wiki")
        assert found in ({}, on_disk(exported))
        done = push(hub, house, data, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert hub.files("someone/wiki") == on_disk(exported)


@pytest.mark.slow
def test_no_network_at_all(house, data):
    with Hub() as hub:
        hub.breaks = 0
        done = push(hub, house, data, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "The way to the hub broke off" in done.stderr.splitlines()[-1]
