"""A run that was stopped, extended or left alone for a while ends as if nothing had happened; what cannot be is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import LENGTH, state, training_command, wikigpt
from safetensors.torch import load

from wikigpt.checkpoint import find_checkpoint, newest_checkpoint, save_checkpoint
from wikigpt.config import RunConfig, TrainingSettings
from wikigpt.errors import RunError
from wikigpt.metrics import read_metrics
from wikigpt.optim import learning_rate_at, stable_steps
from wikigpt.runs import is_locked, locked, read_run


def losses(run):
    return [(row["step"], row["loss"], row["learning_rate"]) for row in read_metrics(run, "train")]


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


MODERN = pytest.param(
    "--arch qwen3 --qkv_bias False --drop_rate 0 --tie_embeddings False --zero_init True --momentum 0.95",
    marks=pytest.mark.slow,
)


ADAMW = pytest.param("--optimizer adamw", marks=pytest.mark.slow)


@pytest.mark.parametrize("flags", [ADAMW, "--optimizer muon", MODERN])
def test_a_stopped_run_ends_as_one_that_never_stopped(train, models, tmp_path, flags):
    def train_so(more):
        return train(f"{flags} {more}")

    assert train_so("--run whole") == 0
    assert train_so("--run stopped --keep_every 6") == 0
    stopped = models / "stopped"
    end = state(stopped)
    for step in ("step_00000011", "step_00000012"):  # as if it had stopped after step 6
        (stopped / "checkpoints" / step).rename(tmp_path / step)
    (stopped / "latest").write_text("step_00000006\n")
    assert newest_checkpoint(stopped).name == "step_00000006"
    assert train_so("--run stopped") == 0
    assert state(stopped) == end == state(models / "whole")
    assert losses(stopped) == losses(models / "whole")


@pytest.mark.slow
def test_how_often_one_looks_changes_nothing(train, models):
    assert train("--run often --eval_every 1 --save_every 1") == 0
    assert train("--run never --eval_every 99 --save_every 99") == 0
    assert state(models / "often") == state(models / "never")


def test_kept_are_the_newest_two_the_best_every_kth_and_the_one_before_the_fall(train, models):
    assert train("--run r --eval_every 1 --save_every 1 --keep_every 5 --max_steps 20") == 0
    run = models / "r"
    validation = {row["step"]: row["loss"] for row in read_metrics(run, "validation")}
    best = min((step for step in validation if step), key=validation.__getitem__)
    stable = stable_steps(20, RunConfig.load(run / "run.json").training)
    kept = {int(path.name.removeprefix("step_")) for path in (run / "checkpoints").iterdir()}
    assert kept == {5, 10, 15, 19, 20, stable, best} and stable == 17
    assert find_checkpoint(run, "best").name == f"step_{best:08d}"
    assert find_checkpoint(run, "10").name == "step_00000010" and find_checkpoint(run, "latest").name == "step_00000020"
    with pytest.raises(RunError, match="step_00000015"):
        find_checkpoint(run, "3")


@pytest.mark.slow
def test_a_longer_wsd_run_is_as_if_it_had_been_longer_from_the_beginning(train, models, capsys):
    assert train("--run long --max_steps 20") == 0
    assert train("--run grown --max_steps 12") == 0
    finished = state(models / "grown")
    assert train("--run grown --max_steps 20") == 0
    assert "going on from step 11" in capsys.readouterr().err
    assert state(models / "grown") == state(models / "long")
    assert losses(models / "grown") == losses(models / "long")
    assert [row["step"] for row in read_metrics(models / "grown", "final")] == [20]
    steps = [line for line in (models / "grown" / "samples.md").read_text().splitlines() if line.startswith("## ")]
    assert steps == [f"## Step {n}" for n in (0, 1, 2, 4, 8, 16, 20)]
    # What was finished can still be read.
    old = find_checkpoint(models / "grown", "aside_00000012")
    assert (old / "model.safetensors").read_bytes() == finished["model.safetensors"]


def test_what_does_not_depend_on_the_length_is_the_same_in_all_lengths():
    settings = TrainingSettings(1e-3, 1, 8, 0.1, 4, 1, 1.0, "wsd")
    for total in (1, 2, 3, 7, 10, 33, 100, 1001):
        stable = stable_steps(total, settings)
        longer = [learning_rate_at(step, 10 * total + 50, settings) for step in range(total)]
        here = [learning_rate_at(step, total, settings) for step in range(total)]
        assert here[:stable] == longer[:stable] and (total < 20 or here[stable] < longer[stable])
        assert 1 <= stable <= total


def test_learning_rate_and_length_may_change_before_the_end(train, models, tmp_path, capsys):
    assert train("--run r --schedule constant --max_steps 6") == 0
    assert train("--run r --schedule constant --max_steps 10 --learning_rate 1e-3") == 0
    said = capsys.readouterr().err
    assert "another learning_rate: 0.008 -> 0.001" in said and "another total_steps: 6 -> 10" in said
    assert [rate for _, _, rate in losses(models / "r")][4:] == [0.008] * 2 + [0.001] * 4
    assert train("--run r --schedule constant --max_steps 8 --learning_rate 1e-3") == 2
    assert "is at step 10 already" in capsys.readouterr().err
    for rate in ("--learning_rate 1e-4", "--learning_rate 1e-3 --matrix_learning_rate 1e-4"):
        assert train(f"--run r --schedule constant --max_steps 10 {rate}") == 2
        assert "another learning rate would change nothing" in capsys.readouterr().err


def test_the_same_command_again_is_aside_and_other_settings_are_named(train, models, capsys):
    assert train("--run r") == 0
    stamp = (models / "r/checkpoints/step_00000012/state.json").stat().st_mtime_ns
    assert train("--run r") == 0
    assert (models / "r/checkpoints/step_00000012/state.json").stat().st_mtime_ns == stamp
    capsys.readouterr()
    assert train("--run r --weight_decay 0.3 --seed 3") == 2
    message = capsys.readouterr().err
    assert "weight_decay: 0.1 -> 0.3" in message and "seed: 0 -> 3" in message and "--fresh" in message
    assert train("--run r --weight_decay 0.3 --seed 3 --fresh") == 0


def test_the_name_of_a_run_is_enough_to_go_on_and_like_takes_its_settings(train, models, data):
    assert train("--run r --seed 7 --weight_decay 0.2") == 0
    shutil.rmtree(models / "r/checkpoints/step_00000012")
    end = losses(models / "r")
    assert wikigpt("train --run r", data.path.parent) == 0
    assert losses(models / "r") == end and newest_checkpoint(models / "r").name == "step_00000012"
    assert wikigpt("train --run twin --like r", data.path.parent) == 0
    assert state(models / "twin") == state(models / "r")
    assert wikigpt("train --run other --like r --emb_dim 16 --max_steps 2", data.path.parent) == 0
    other = RunConfig.load(models / "other/run.json")
    assert (other.model.emb_dim, other.training.weight_decay, other.seed, other.total_steps) == (16, 0.2, 7, 2)


def test_another_tokenizer_or_other_data_is_named(train, models, capsys):
    assert train("--run r") == 0
    path = models / "r" / "run.json"
    path.write_text(
        path.read_text()
        .replace('"tokenizer_hash": "', '"tokenizer_hash": "0')
        .replace('"data_hash": "', '"data_hash": "1')
    )
    assert train("--run r") == 2
    message = capsys.readouterr().err
    assert "tokenizer_hash: 0" in message and "data_hash: 1" in message


def test_a_damaged_checkpoint_is_passed_over(train, models):
    assert train("--run r") == 0
    run = models / "r"
    (run / "checkpoints/step_00000012/optimizer.safetensors").write_bytes(b"half")
    assert newest_checkpoint(run).name == "step_00000011"
    assert newest_checkpoint(run, weights_only=True).name == "step_00000012"
    (run / "checkpoints/step_00000011/state.json").unlink()
    with pytest.raises(RunError, match=r"optimizer\.safetensors is missing or differs.*state\.json is not readable"):
        newest_checkpoint(run)


@pytest.mark.slow
def test_a_run_goes_on_from_behind_two_damaged_checkpoints(train, models, monkeypatch):
    assert train("--run whole --keep_every 6") == 0 and train("--run r --keep_every 6") == 0
    run = models / "r"
    for step in (11, 12):
        (run / f"checkpoints/step_{step:08d}/model.safetensors").write_bytes(b"half")
    saves = []

    def checked(*arguments):
        save_checkpoint(*arguments)
        saves.append(newest_checkpoint(run).name == f"step_{arguments[2]:08d}")

    monkeypatch.setattr("wikigpt.train.save_checkpoint", checked)
    assert train("--run r --save_every 2") == 0
    assert len(saves) == 4 and all(saves)  # each counts as the newest at once, and is not taken for an old one
    assert state(run) == state(models / "whole")


def test_a_second_trainer_is_kept_out(train, models, tmp_path, capsys):
    with locked(models / "r", RunError("busy", "")):
        assert is_locked(models / "r")
        assert train("--run r") == 2
    assert "Another process is training models/r" in capsys.readouterr().err
    assert not is_locked(models / "r") and not models.exists()  # nothing came of it: nothing is left
    assert train("--run r") == 0
    with locked(models / "r", RunError("busy", "")):
        assert train("--run r --fresh") == 2
    assert read_run(models / "r").finished


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_saves_and_the_same_command_continues(data, tmp_path, number):
    process, run = begin(data, tmp_path)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "continues it" in said
    step = int(newest_checkpoint(run).name.removeprefix("step_"))
    assert 3 <= step < 60 and (run / "loss.png").exists() and (run / "report.html").exists()
    done = subprocess.run([sys.executable, *COMMAND], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=True)
    assert "continuing" in done.stderr
    assert [row["step"] for row in read_metrics(run, "train")] == list(range(1, 61))


@pytest.mark.slow
def test_sigusr1_saves_and_training_goes_on(data, tmp_path):
    process, run = begin(data, tmp_path)
    process.send_signal(signal.SIGUSR1)
    while process.poll() is None and not (run / "latest").exists():
        time.sleep(0.02)
    saved, seen = newest_checkpoint(run), len(read_metrics(run, "train"))
    while process.poll() is None and len(read_metrics(run, "train")) < seen + 3:
        time.sleep(0.02)
    assert process.poll() is None and saved is not None
    process.kill()
    process.communicate()


COMMAND = ["-m", "wikigpt", *training_command("", "--batch_size 8 --max_steps 60 --eval_every 60").split()]


def begin(data, tmp_path):
    """A process that trains, when it has done three steps."""
    os.symlink(data.path.parent, tmp_path / "dataset")
    process = subprocess.Popen([sys.executable, *COMMAND], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "models" / "es-tiny"
    while process.poll() is None and len(read_metrics(run, "train")) < 3:
        time.sleep(0.05)
    return process, run


def test_a_kill_between_the_last_save_and_the_last_figures_loses_neither(train, models):
    assert train("--run r") == 0
    run = models / "r"
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(row for row in rows if '"final"' not in row))
    (run / "loss.png").unlink()
    assert train("--run r") == 0
    assert len(read_metrics(run, "final")) == 1 and (run / "loss.png").exists()
    assert [row["step"] for row in read_metrics(run, "train")] == list(range(1, 13))


def test_a_run_begins_with_the_weights_of_another(train, models, capsys):
    assert train("--run base") == 0
    assert train("--run r --init_from base --learning_rate 1e-9 --matrix_learning_rate 1e-9 --max_steps 2") == 0
    base, r = state(models / "base"), state(models / "r")
    one, other = load(base["model.safetensors"]), load(r["model.safetensors"])
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
    config = RunConfig.load(models / "r/run.json")
    assert config.init_from == "models/base" and len(config.init_hash) == 64
    shutil.rmtree(models / "r/checkpoints")  # killed before its first save: it begins with the same weights again
    (models / "r/latest").unlink()
    assert train("--run r --learning_rate 1e-9 --matrix_learning_rate 1e-9 --max_steps 2") == 0
    assert state(models / "r") == r
    capsys.readouterr()
    assert train("--run s --init_from base --context_length 64") == 2
    assert "has context_length 32, not 64" in capsys.readouterr().err
    assert train("--run s --init_from nothing") == 2
    assert "neither a run nor a folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_profile_is_a_trace_and_changes_nothing(train, models):
    assert train("--run plain") == 0 and train("--run profiled --profile") == 0
    assert state(models / "plain") == state(models / "profiled")
    trace = json.loads((models / "profiled" / "trace.json").read_text())
    assert any("addmm" in event.get("name", "") for event in trace["traceEvents"])


def test_an_unaside_start_is_no_obstacle(train, models):
    (models / "r").mkdir(parents=True)
    (models / "r" / "run.json.partial").write_text("{")
    assert train(f"--run r {LENGTH}") == 0


def test_what_a_kill_left_in_the_small_files_is_no_obstacle(train, models):
    """A stale `latest`, half a character in the samples, half a row, no report: each was seen to stop a run for good."""
    assert train("--run r --keep_every 6") == 0
    run = models / "r"
    end = state(run)
    (run / "latest").write_text("step_00000006\n")
    for name in ("samples.md", "metrics.jsonl"):
        with open(run / name, "ab") as file:
            file.write(b"\n5\n\xc3")
    for name in ("report.html", "loss.png"):
        (run / name).unlink()
    assert read_run(run).finished
    assert train("--run r") == 0
    assert (run / "latest").read_text() == "step_00000012\n" and (run / "report.html").exists()
    shutil.rmtree(run / "checkpoints" / "step_00000012")
    shutil.rmtree(run / "checkpoints" / "step_00000011")
    assert train("--run r") == 0 and state(run) == end


@pytest.mark.slow
def test_growing_twice_and_in_between_shrinking_is_possible(train, models):
    assert train("--run r") == 0 and train("--run r --max_steps 20") == 0
    (models / "r" / "checkpoints" / "aside_00000020").mkdir()  # as if it had been done before
    assert train("--run r --max_steps 30") == 0
    assert train("--run long --max_steps 30") == 0 and state(models / "r") == state(models / "long")
    assert {"aside_00000012", "aside_00000020"} <= {path.name for path in (models / "r" / "checkpoints").iterdir()}


@pytest.mark.slow
def test_a_run_by_path_and_names_that_cannot_be(train, models, data, capsys):
    assert train("--run r --schedule constant --max_steps 6") == 0
    assert wikigpt("train --run models/r --max_steps 8", data.path.parent) == 0
    assert read_run(models / "r").step == 8 and not (models / "models").exists()
    for name in ("sub/x", "../y", ".", ".hidden"):
        assert train(f"--run {name}") == 2 and "cannot name a folder" in capsys.readouterr().err
    assert sorted(path.name for path in models.iterdir()) == [".r.lock", "r"]
    assert train("--run x$\\foo$") == 0 and (models / "x$\\foo$" / "report.html").exists()


def test_fresh_starts_over_with_the_same_settings_and_never_with_its_own_weights(train, models, data, capsys):
    assert train("--run base") == 0
    assert train("--run r --init_from base --keep_every 3") == 0
    end = state(models / "r")
    assert wikigpt("train --run r --fresh", data.path.parent) == 0
    config = RunConfig.load(models / "r" / "run.json")
    assert state(models / "r") == end and (config.keep_every, config.save_every, config.eval_every) == (3, 6, 4)
    assert train("--run base --init_from base --fresh") == 2
    assert "cannot begin with its own weights" in capsys.readouterr().err and read_run(models / "base").finished
    (models / "r" / "run.json").write_text("{broken")
    assert wikigpt("train --run r", data.path.parent) == 2
    assert train("--run r --fresh") == 0


@pytest.mark.slow
def test_a_longer_run_keeps_the_pace_that_was_asked_for(train, models, data):
    assert train("--run r") == 0  # --eval_every 4 --save_every 6
    assert wikigpt("train --run r --max_steps 40", data.path.parent) == 0
    config = RunConfig.load(models / "r" / "run.json")
    assert (config.eval_every, config.save_every) == (4, 6)


def test_a_read_only_dataset_is_enough(train, models, data):
    (models.parent / "dataset").mkdir()
    shutil.copytree(data.path, models.parent / "dataset" / "es")
    tokenizer = models.parent / "dataset" / "es" / "tokenizer"
    for path in (*tokenizer.iterdir(), tokenizer):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = training_command("--run r --max_steps 2").split()
    assert wikigpt(command, models.parent / "dataset") == 0
    assert all(os.stat(path).st_mode & 0o200 for path in (models / "r" / "tokenizer").iterdir())
    assert wikigpt([*command, "--fresh"], models.parent / "dataset") == 0
    tokenizer.chmod(0o755)


@pytest.mark.parametrize("content", ["null", "5", '"x"', "{}", '{"model": 3, "training": 4}'])
def test_one_damaged_run_spoils_no_other(train, models, data, capsys, content):
    (models / "bad").mkdir(parents=True)
    (models / "bad" / "run.json").write_text(content)
    assert wikigpt("runs", data.path.parent) == 0
    assert "left out: models/bad/run.json is not a readable run.json" in capsys.readouterr().err
