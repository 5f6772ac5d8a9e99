"""A run's state on disk: full tensors in safetensors, the rest in JSON, no pickle.

    models/<run>/checkpoints/step_00000100/model.safetensors       weights, float32
                                           optimizer.safetensors   AdamW's moments by parameter, random states
                                           state.json              step, gradient scaler, SHA-256 of both files
    models/<run>/latest                                            "step_00000100"

A checkpoint is written beside its place and renamed when whole, so a folder named step_... is complete unless the disk
lost it; the checksums tell. The newest complete one wins.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wikigpt.config import write_json, write_text
from wikigpt.data.shards import file_hash
from wikigpt.errors import RunError

KEEP = 2  # newest checkpoints kept: one to fall back on


def save_checkpoint(
    run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, device: str
) -> Path:
    """Writes the state after `step` optimiser steps and removes checkpoints older than the newest two."""
    final = run / "checkpoints" / f"step_{step:08d}"
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(
        {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}, partial / "model.safetensors"
    )
    save_file(_optimizer_tensors(model, optimizer) | _random_states(device), partial / "optimizer.safetensors")
    for path in partial.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    hashes = {path.name: file_hash(path) for path in sorted(partial.iterdir())}
    write_json(partial / "state.json", {"step": step, "scaler": scaler.state_dict(), "files": hashes})
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    write_text(run / "latest", final.name + "\n")
    for old in _checkpoints(run)[KEEP:]:
        shutil.rmtree(old)
    return final


def newest_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, None where there is none. Raises RunError where all are damaged."""
    damaged = []
    for path in _checkpoints(run):
        if not (damage := _damage(path)):
            return path
        damaged.append(damage)
    if damaged:
        raise RunError(f"No checkpoint of {run} is whole: {'; '.join(damaged)}.", "Start over with --fresh.")
    return None


def load_weights(checkpoint: Path, model: nn.Module) -> int:
    """Copies the weights of a checkpoint into the model and returns its step."""
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return int(_state(checkpoint)["step"])


def load_checkpoint(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, device: str
) -> int:
    """Brings model, optimiser, scaler and random states back to where they were saved; returns the step."""
    step = load_weights(checkpoint, model)
    tensors = load_file(checkpoint / "optimizer.safetensors")
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, quantity = key.rpartition("/")
        if name in parameters:  # AdamW counts its steps on the CPU or beside a fused parameter; the rest lies beside it
            optimizer.state[parameters[name]][quantity] = tensor.to(parameters[name].device)
    if scaler_state := _state(checkpoint)["scaler"]:
        scaler.load_state_dict(scaler_state)
    torch.set_rng_state(tensors["random/cpu"])
    if device == "cuda" and "random/cuda" in tensors:  # not there where the run began on another device
        torch.cuda.set_rng_state(tensors["random/cuda"])
    elif device == "mps" and "random/mps" in tensors:
        torch.mps.set_rng_state(tensors["random/mps"])
    return step


def _checkpoints(run: Path) -> list[Path]:
    found = (run / "checkpoints").glob("step_" + "[0-9]" * 8)
    return sorted(found, reverse=True)


def _state(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words."""
    try:
        files = _state(checkpoint)["files"]
    except (OSError, ValueError, LookupError):
        return f"{checkpoint / 'state.json'} is not readable"
    for name, sha256 in files.items():
        path = checkpoint / name
        if not path.exists() or file_hash(path) != sha256:
            return f"{path} is missing or differs from its checksum"
    return None


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{quantity}": tensor.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for quantity, tensor in optimizer.state[parameter].items()
    }


def _random_states(device: str) -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if device == "cuda":
        states["random/cuda"] = torch.cuda.get_rng_state()
    elif device == "mps":
        states["random/mps"] = torch.mps.get_rng_state()
    return states
