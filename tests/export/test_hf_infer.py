"""hf_infer.py: a published model runs with torch and transformers alone; code from the hub only where it was asked for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import Hub

from wikigpt.generate import Sampling, generate_text, load_model
from wikigpt.runs import read_run

ROOT = Path(__file__).parent.parent.parent
BLOCKED = 'raise ImportError("wikigpt cannot be imported here")\n'


@pytest.fixture
def infer(house, tmp_path):
    """Runs the script, in a process that cannot import us and has no network but `hub`."""
    (tmp_path / "nowhere" / "wikigpt").mkdir(parents=True)
    (tmp_path / "nowhere" / "wikigpt" / "__init__.py").write_text(BLOCKED)

    def run(*flags, cwd=house, hub=None, **environment):
        where = (
            hub.environment(tmp_path / "hf")
            if hub
            else os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
        )
        where |= {"PYTHONPATH": str(tmp_path / "nowhere")} | environment
        command = [sys.executable, ROOT / "hf_infer.py", *flags]
        return subprocess.run(command, cwd=cwd, env=where, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.slow
def test_the_newest_export_with_its_own_code_offline(infer, house, exported):
    """Flagless; the text is what our generator writes, streamed, beyond the context."""
    os.utime(exported / "config.json")
    done = infer("--input", "# Luna\n\n", "--temperature", "0", "--max_gen", "70", "--stream")
    assert done.returncode == 0 and "(GPT2CustomLMHeadModel)" in done.stderr, done.stderr
    model, tokenizer = load_model(read_run(house / "models" / "r"), "cpu")
    ours = "# Luna\n\n" + "".join(generate_text(model, tokenizer, "# Luna\n\n", Sampling(max_gen=70, temperature=0)))
    assert done.stdout.rstrip("\n") == ours.rstrip("\n")


@pytest.mark.slow
def test_a_modern_export_runs_in_the_stock_class(infer, at_house, house, tmp_path):
    assert at_house(f"export --run m --folder {tmp_path}/out") == 0
    done = infer("--repo_id", str(tmp_path / "out"), "--input", "# Luna\n\n", "--temperature", "0", "--max_gen", "20")
    assert done.returncode == 0 and "(Qwen3ForCausalLM)" in done.stderr, done.stderr
    model, tokenizer = load_model(read_run(house / "models" / "m"), "cpu")
    ours = "# Luna\n\n" + "".join(generate_text(model, tokenizer, "# Luna\n\n", Sampling(max_gen=20, temperature=0)))
    assert done.stdout.rstrip("\n") == ours.rstrip("\n")


@pytest.mark.slow
def test_from_the_hub_stock_classes_unless_its_code_was_asked_for_at_a_commit(infer, exported):
    with Hub() as hub:
        commit = hub.commit("model", "someone/wiki", "main", {p.name: p.read_bytes() for p in exported.iterdir()})
        asked = ("--repo_id", "someone/wiki", "--input", "La Luna es", "--max_gen", "10", "--seed", "1")
        done = infer(*asked, hub=hub)
        assert done.returncode == 0 and done.stdout.startswith("La Luna es"), done.stderr
        assert "(GPT2LMHeadModel)" in done.stderr
        assert (
            "transformers' own GPT-2 runs it; to run modeling_gpt2_custom.py of someone/wiki, read it and add "
            in done.stderr
        )
        assert f"--trust_remote_code --revision {commit}" in done.stderr
        custom = infer(*asked, "--trust_remote_code", "--revision", commit, hub=hub)
        assert custom.returncode == 0 and "(GPT2CustomLMHeadModel)" in custom.stderr, custom.stderr
        assert custom.stdout == done.stdout  # the same text from both


@pytest.mark.slow
def test_code_from_the_hub_does_not_run_by_itself(infer, exported, tmp_path):
    """Code that would leave a trace: neither by default, nor with a branch, nor with --native."""
    trace = tmp_path / "trace"
    with Hub() as hub:
        files = {p.name: p.read_bytes() for p in exported.iterdir()}
        files["modeling_gpt2_custom.py"] += f"\nopen({str(trace)!r}, 'w').close()\n".encode()
        commit = hub.commit("model", "someone/wiki", "main", files)
        asked = ("--repo_id", "someone/wiki", "--input", "a", "--max_gen", "2")
        for flags in ((), ("--trust_remote_code",), ("--trust_remote_code", "--revision", "main"), ("--revision", commit),
                      ("--native", "--trust_remote_code", "--revision", commit)):  # fmt: skip
            done = infer(*asked, *flags, hub=hub)
            assert done.returncode == 0 and "(GPT2LMHeadModel)" in done.stderr, (flags, done.stderr)
            assert not trace.exists(), flags
        done = infer(*asked, "--trust_remote_code", "--revision", commit, hub=hub)
        assert done.returncode == 0 and trace.exists()


@pytest.mark.slow
def test_code_of_another_repository_never_runs(infer, exported, tmp_path):
    """config.json may name code elsewhere, which transformers would fetch at whatever it is by now."""
    trace = tmp_path / "trace"
    files = {p.name: p.read_bytes() for p in exported.iterdir()}
    elsewhere = {"AutoModelForCausalLM": "evil/repo--modeling_gpt2_custom.GPT2CustomLMHeadModel"}
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"auto_map": elsewhere}).encode()
    (tmp_path / "local").mkdir()
    for name, content in files.items():
        (tmp_path / "local" / name).write_bytes(content)
    with Hub() as hub:
        commit = hub.commit("model", "nice/repo", "main", files)
        evil = files | {"modeling_gpt2_custom.py": f"open({str(trace)!r}, 'w').close()\n".encode()}
        hub.commit("model", "evil/repo", "main", evil)
        asked = ("--input", "a", "--max_gen", "2", "--trust_remote_code")
        for name in (("nice/repo", "--revision", commit), (str(tmp_path / "local"),)):
            done = infer("--repo_id", *name, *asked, hub=hub)
            assert done.returncode == 0 and "(GPT2LMHeadModel)" in done.stderr, done.stderr
            assert not trace.exists() and not any("evil" in path for _, path, _ in hub.requests)


@pytest.mark.slow
def test_damage_gets_one_line(infer, exported, tmp_path):
    folder = tmp_path / "damaged"
    for name, content in (("model.safetensors", b"\x08"), ("config.json", b"[]"), ("tokenizer.json", b"{}")):
        shutil.copytree(exported, folder)
        (folder / name).write_bytes(content)
        done = infer("--repo_id", str(folder))
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
        shutil.rmtree(folder)
    with Hub() as hub:
        done = infer("--repo_id", "someone/wiki", hub=hub, HF_TOKEN="hf_sec\nret")
    assert done.returncode == 2 and "HF_TOKEN is no token" in done.stderr and "hf_sec" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--repo_id", "exports/nothing"), "exports/nothing is not a folder here, and the hub is out of reach"),
        (("--repo_id", "a b"), "'a b' is neither a folder here nor a name on the hub"),
        (("--repo_id", "models"), "models holds no model (no config.json)"),
        (("--temperature", "-1"), "--temperature must be 0 or more"),
        (("--temperature", "nan"), "--temperature must be 0 or more"),
        (("--seed", "99999999999999999999999"), "--seed must be 0 or more"),
        (("--repo_id", "exports/r", "--revision", "main"), "exports/r is a folder here: --revision is for the hub."),
        (("--repo_id", ""), "'' is neither a folder here nor a name on the hub"),
    ],
)
def test_a_mistake_gets_one_line(infer, flags, says):
    done = infer(*flags)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and says in done.stderr, done.stderr


def test_without_an_export_it_says_how_to_make_one(infer, tmp_path):
    done = infer(cwd=tmp_path)
    assert done.returncode == 2 and "Make one with: python export_to_hf.py" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_repository_that_is_not_there_or_private(infer):
    with Hub() as hub:
        hub.commit("model", "someone/empty", "main", {"README.md": b"soon"})
        done = infer("--repo_id", "someone/empty", hub=hub)
        assert done.returncode == 2 and "The main branch of someone/empty holds no model." in done.stderr
        done = infer("--repo_id", "someone/secret", hub=hub)
        assert done.returncode == 2 and "The hub has no someone/secret" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_pushed_and_run_from_there(infer, house, data):
    """From a run to the hub and back, as the README has it."""
    (house / "dataset").exists() or (house / "dataset").symlink_to(data.path.parent)
    with Hub() as hub:
        command = [sys.executable, "export_to_hf.py"]
        for name in ("export_to_hf.py", "config.py"):
            (house / name).write_bytes((ROOT / name).read_bytes())
        where = hub.environment(house / "hf", HF_TOKEN="hf_right")
        flags = ["--run", "r", "--push", "someone/wiki", "--html"]
        pushed = subprocess.run([*command, *flags], cwd=house, env=where, capture_output=True, text=True)
        assert pushed.returncode == 0 and f"pushed: {hub.url}/someone/wiki (private model)" in pushed.stderr, (
            pushed.stderr
        )
        done = infer("--repo_id", "someone/wiki", "--input", "La Luna es", "--max_gen", "10", "--stream", hub=hub)
        assert done.returncode == 0 and done.stdout.startswith("La Luna es"), done.stderr
        downloaded = {
            path.rpartition("/")[2] for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path
        }
        assert "index.html" not in downloaded and "model.safetensors" in downloaded
