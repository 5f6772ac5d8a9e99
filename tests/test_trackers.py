"""Metrics go where they are asked to, and nothing is imported that was not asked for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import training_command, wikigpt

from wikigpt.errors import ConfigError
from wikigpt.metrics import read_all
from wikigpt.trackers import check_tracker, numbers


@pytest.mark.slow
def test_tensorboard_holds_what_metrics_jsonl_holds_also_after_going_on(train, data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train("--run r --log_to tensorboard --schedule constant --max_steps 6") == 0
    assert wikigpt("train --run r --max_steps 9", data.path.parent) == 0  # goes on sending
    run = tmp_path / "models" / "r"
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    rows = read_all(run)
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert losses == pytest.approx({row["step"]: row["loss"] for row in rows["train"]}, rel=1e-5)
    bits = {event.step: event.value for event in events.Scalars("validation/bits_per_byte")}
    assert bits == pytest.approx({row["step"]: row["bits_per_byte"] for row in rows["validation"]}, rel=1e-5)
    (run / "metrics.jsonl").write_text("")
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    shutil.rmtree(newest)  # as after a kill: some steps come again
    assert wikigpt("train --run r --max_steps 9", data.path.parent) == 0
    events.Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == sorted(set(steps)) and steps[-1] == 9
    assert wikigpt("train --run r --max_steps 12 --log_to none", data.path.parent) == 0
    assert json.loads((run / "run.json").read_text())["log_to"] == ""


@pytest.mark.slow
def test_wandb_offline_keeps_it_in_the_run(train, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert train("--run r --log_to wandb") == 0
    run = tmp_path / "models" / "r"
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    kept = file.read_bytes()  # its history is JSON inside of records
    assert all(json.dumps(row["loss"]).encode() in kept for row in read_all(run)["train"]) and b"train/loss" in kept
    assert all(json.dumps(row["bits_per_byte"]).encode() in kept for row in read_all(run)["validation"])
    assert (run / "wandb_id").read_text().strip() in file.name


@pytest.mark.slow
def test_without_a_login_it_says_what_to_do(data, tmp_path):
    pytest.importorskip("wandb")
    home = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | {"HOME": str(tmp_path)}
    command = training_command(f"--run r --log_to wandb --data {data.path}").split()
    done = subprocess.run(
        [sys.executable, "-m", "wikigpt", *command], cwd=tmp_path, env=home, capture_output=True, text=True
    )
    assert done.returncode == 2 and "set WANDB_MODE=offline" in done.stderr.strip().splitlines()[-1]


def test_one_that_is_not_there_gets_one_line(monkeypatch):
    with pytest.raises(ConfigError, match="Take tensorboard or wandb"):
        check_tracker("mlflow")
    monkeypatch.setattr("wikigpt.trackers.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        check_tracker("wandb")
    assert numbers("train", {"step": 3, "loss": 1.5, "part": "all", "grad_norm": None}) == {"train/loss": 1.5}


@pytest.mark.slow
def test_neither_is_imported_unless_it_is_asked_for(data, tmp_path):
    code = (
        "import sys; from helpers import wikigpt; from pathlib import Path; import os; os.chdir(sys.argv[2])\n"
        "assert wikigpt(sys.argv[3], Path(sys.argv[1])) == 0\n"
        "assert not {'tensorboard', 'wandb', 'lm_eval', 'pydivsufsort'} & set(sys.modules), 'imported'"
    )
    command = [sys.executable, "-c", code, data.path.parent, tmp_path, training_command("--run r")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
