"""What tests of training share: a command that trains a model too small to wait for, and how to compare two runs."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from wikigpt import config as defaults
from wikigpt import hardware, train, trial
from wikigpt.checkpoint import newest_checkpoint
from wikigpt.cli import main

SHAPE = "--emb_dim 32 --n_heads 2 --n_layers 1 --context_length 32 --drop_rate 0.1 --dtype float32 --threads 2"
LENGTH = (
    "--decay_share 0.2 --batch_size 8 --max_steps 12 --warmup_steps 4 --eval_every 4 --save_every 6 --eval_tokens 500"
)


def quick() -> None:
    """Less of what takes its time and is no matter here: the timings behind MFU and --hours, the length of samples."""
    hardware.PEAK_SECONDS = 0.05
    trial.TIMING_SECONDS = 0.3
    train.SAMPLING = replace(train.SAMPLING, max_gen=6)


def wikigpt(command: str | list[str], datafolder: Path) -> int:
    """Runs a command in this process, with the presets as they are and data from there; returns the exit code."""
    names = ("MODEL_CONFIGS", "TRAINING_SETTINGS", "MODEL_DIR")
    settings = SimpleNamespace(**{name: getattr(defaults, name) for name in names}, DATAFOLDER=str(datafolder))
    return main(command.split() if isinstance(command, str) else command, settings)


def training_command(flags: str, length: str = LENGTH) -> str:
    return f"train --model_config tiny --training_setting small_models {SHAPE} {length} {flags}"


def state(run: Path) -> dict[str, bytes]:
    """The newest checkpoint of a run, to the byte: weights, moments, random states."""
    return {path.name: path.read_bytes() for path in newest_checkpoint(run).glob("*.safetensors")}
