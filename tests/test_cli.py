"""What a person types: the verbs, the seed's scripts, pipes, mistakes. Each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command, cwd, stdin=None):
    return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, input=stdin)


def wikigpt(*arguments, cwd):
    return run("-m", "wikigpt", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def house(tmp_path_factory, data):
    """A folder with prepared data and one finished run of `tiny`."""
    folder = tmp_path_factory.mktemp("house with a space")
    (folder / "dataset").symlink_to(data.path.parent)
    done = wikigpt(
        "train",
        "--model_config",
        "tiny",
        "--training_setting",
        "fast",
        "--max_steps",
        "3",
        "--n_layers",
        "1",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_help_answers_without_torch(tmp_path):
    code = "import sys; from wikigpt.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    done = run("-c", code + "print([m for m in ('torch', 'matplotlib', 'pyarrow') if m in sys.modules])", cwd=tmp_path)
    assert "--learning_rate" in done.stdout and "--emb_dim" in done.stdout and done.stdout.endswith("[]\n")


@pytest.mark.slow
def test_hyphens_and_underscores_both_work(house):
    for flag in ("--held_out", "--held-out"):
        assert "held_out is 0.7" in wikigpt("prepare", flag, "0.7", cwd=house).stderr


def test_generate_says_which_run_and_prints_only_text(house):
    done = wikigpt("generate", "--title", "Luna", "--max_gen", "5", "--seed", "1", cwd=house)
    assert done.returncode == 0 and done.stdout.startswith("# Luna\n\n")
    assert "run: es-tiny" in done.stderr and "seed 1" in done.stderr


@pytest.mark.slow
def test_streamed_text_is_the_same_text(house):
    flags = ("generate", "--input", "La luna", "--seed", "3", "--max_gen", "20", "--num_samples", "2")
    plain, streamed = wikigpt(*flags, cwd=house), wikigpt(*flags, "--stream", cwd=house)
    assert plain.stdout == streamed.stdout and plain.stdout.count("\n---\n") == 1


def test_a_prompt_longer_than_the_context_is_handled(house):
    done = wikigpt("generate", "--input", "palabra " * 900, "--max_gen", "5", cwd=house)
    assert done.returncode == 0 and len(done.stdout) > 900 * 8


def test_a_reader_that_goes_away_is_no_error(house):
    command = f"'{sys.executable}' -m wikigpt generate --input x --max_gen 400 --num_samples 3 --stream | head -c 1"
    done = subprocess.run(command, shell=True, cwd=house, capture_output=True, text=True)
    assert done.stdout == "x" and "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "--input", "x", "--model_config", "gpt2_original"], "wikigpt train --model_config gpt2_original"),
        (["generate", "--input", "x", "--run", "nothing"], "There is no run"),
        (["generate"], "Give one of --input TEXT and --title TITLE"),
        (["generate", "--input", "x", "--temperature", "-1"], "temperature is -1"),
        (["train", "--model_config", "tinny"], "Did you mean 'tiny'?"),
        (["train", "--data", "pt"], "wikigpt prepare"),
        (["prepare", "--wiki", "pt", "--source", "sample"], "en, es, fr"),
        (
            ["prepare", "--wiki", "es", "--source", "sample", "--name", "other", "--vocab_size", "100"],
            "Take 257 or more",
        ),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(house, arguments, says):
    done = wikigpt(*arguments, cwd=house)
    assert done.returncode == 2 and done.stdout == ""
    assert says in done.stderr.strip().splitlines()[-1] and "Traceback" not in done.stderr
    assert sorted(path.name for path in (house / "dataset").glob("[!.]*") if path.suffix != ".partial") == ["es"]


def test_with_no_run_at_all_it_says_what_makes_one(tmp_path):
    done = wikigpt("generate", "--input", "x", cwd=tmp_path)
    assert done.returncode == 2 and "models/ has no runs yet, or make one with: wikigpt train" in done.stderr


SCRIPTS = (
    "config.py",
    "transformer.py",
    "gpt_dataset.py",
    "gpt_train.py",
    "infer.py",
    "export_to_hf.py",
    "hf_infer.py",
)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The seed's scripts in a folder of their own, as a clone has them, with a preset added in config.py."""
    folder = tmp_path_factory.mktemp("clone")
    for name in SCRIPTS:
        (folder / name).write_text((ROOT / name).read_text())
    with open(folder / "config.py", "a") as file:
        file.write(
            'MODEL_CONFIGS["mine"] = {**MODEL_CONFIGS["tiny"], "n_layers": 1, "emb_dim": 32}\nMODEL_DIR = "my_models"\n'
        )
    return folder


def test_the_seeds_scripts_work_with_their_own_config(scripts):
    assert run("gpt_dataset.py", "--source", "sample", "--wiki", "es", cwd=scripts).returncode == 0
    flags = ["--model_config", "mine", "--training_setting", "Foundation better_quality", "--max_steps", "2"]
    done = run("gpt_train.py", *flags, cwd=scripts)
    assert done.returncode == 0, done.stderr
    assert (scripts / "my_models" / "es-mine" / "latest").exists() and not (scripts / "models").exists()
    seed = ["--input", "Once upon a time", "--model_config", "mine", "--max_gen", "10", "--temperature", "0.8"]
    done = run("infer.py", *seed, "--stream", cwd=scripts)
    assert done.returncode == 0 and done.stdout.startswith("Once upon a time")
    done = run("export_to_hf.py", cwd=scripts)
    assert done.returncode == 0 and (scripts / "exports" / "es-mine" / "model.safetensors").exists(), done.stderr
    done = run("infer.py", "--input", "x", "--model_config", "gpt2_original", cwd=scripts)
    assert done.returncode == 2 and "There are: es-mine (mine, finished)" in done.stderr
    assert run("-c", "from transformer import GPTModel", cwd=scripts).returncode == 0
