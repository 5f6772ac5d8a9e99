"""A run's state on disk: full tensors in safetensors, the rest in JSON, no pickle.

    models/<run>/checkpoints/step_00000100/model.safetensors       weights, float32
                                           optimizer.safetensors   moments by parameter, random states
                                           state.json              step, validation loss, SHA-256 of both files
    models/<run>/latest, best                                      "step_00000100"

A checkpoint is written beside its place and renamed when whole, so a folder named step_... is complete unless the disk
lost it; the checksums tell. The newest complete one wins. Kept are the newest two (one to fall back on), the one with the
lowest validation loss, every --keep_every steps, and of a wsd run the last one before its learning rate falls: from there
a longer run goes on as if it had been longer from the beginning.
"""

import json
import os
import re
import shutil
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wikigpt.config import RunConfig, remove_folder, write_json, write_text
from wikigpt.data.shards import file_hash
from wikigpt.errors import RunError
from wikigpt.optim import stable_steps
from wikigpt.runs import checkpoints, step_of

NEWEST = 2  # kept, whatever they are
WEIGHTS = "model.safetensors"


def save_checkpoint(
    run: Path,
    config: RunConfig,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    validation_loss: float | None,
) -> Path:
    """Writes the state after `step` optimiser steps, with its validation loss where it was measured, and removes the
    checkpoints that need not be kept. Raises OSError where it cannot be written; nothing is lost then."""
    final = run / "checkpoints" / f"step_{step:08d}"
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    try:
        save_tensors(weights, partial / WEIGHTS)
        save_tensors(
            _optimizer_tensors(model, optimizer) | _random_states(config.device), partial / "optimizer.safetensors"
        )
        hashes = {path.name: file_hash(path) for path in sorted(partial.iterdir())}
        state = {"step": step, "validation_loss": validation_loss, "scaler": scaler.state_dict(), "files": hashes}
        write_json(partial / "state.json", state)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    remove_folder(final)  # a damaged one of the same step, which was passed over
    partial.rename(final)
    write_text(run / "latest", final.name + "\n")
    _remove_old(run, config)
    return final


def newest_checkpoint(run: Path, weights_only: bool = False) -> Path | None:
    """The newest complete checkpoint of a run, None where there is none. Raises RunError where all are damaged."""
    damaged = []
    for path in checkpoints(run):
        if not (damage := _damage(path, weights_only)):
            return path
        damaged.append(damage)
    if damaged:
        raise RunError(f"No checkpoint of {run} is whole: {'; '.join(damaged)}.", "Start over with --fresh.")
    return None


def go_on_from(run: Path, config: RunConfig, checkpoint: Path) -> None:
    """Removes newer checkpoints, which are damaged and would count among the newest, and mends what a kill left."""
    for path in checkpoints(run):
        if path > checkpoint:
            remove_folder(path)
    write_text(run / "latest", checkpoint.name + "\n")
    _remove_old(run, config)


def find_checkpoint(run: Path, which: str) -> Path:
    """A checkpoint to read weights from: "latest", "best", a step, or the name of a folder in checkpoints/. Raises RunError
    where there is none or its weights differ from their checksum."""
    if which == "latest":
        if (newest := newest_checkpoint(run, weights_only=True)) is None:
            raise RunError(
                f"The run {run.name} has no checkpoint yet.", f"Continue it with: wikigpt train --run {quote(run.name)}"
            )
        return newest
    name = which
    if which == "best":
        name = (run / "best").read_text(encoding="utf-8").strip() if (run / "best").exists() else "none"
    elif which.isdecimal():
        name = f"step_{int(which):08d}"
    path = run / "checkpoints" / name
    if not (path / "state.json").is_file():
        there = ", ".join(sorted(found.name for found in (run / "checkpoints").glob("*_" + "[0-9]" * 8)))
        raise RunError(f"The run {run.name} has no checkpoint {which!r}.", f"There are: {there or 'none'}.")
    if damage := _damage(path, weights_only=True):
        raise RunError(f"{damage}.", "Take another --checkpoint.")
    return path


def load_weights(checkpoint: Path, model: nn.Module) -> int:
    """Copies the weights of a checkpoint into the model and returns its step."""
    try:
        model.load_state_dict(load_file(checkpoint / WEIGHTS))
    except RuntimeError as error:
        problem = f"The weights in {checkpoint} are of another model than its run.json."
        raise RunError(problem, "Restore run.json, or start over with --fresh.") from error
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


def rewind(run: Path, old: RunConfig, new: RunConfig) -> str | None:
    """Takes a wsd run that is to become longer back to before its learning rate fell: what was trained after that is set
    aside as checkpoints/aside_..., from where weights can still be read. Returns what it did, in words; None where
    nothing had to be done. Doing it again changes nothing, so a kill in between is harmless."""
    stable = stable_steps(old.total_steps, old.training)
    if stable is None or new.total_steps <= old.total_steps or not (found := checkpoints(run)):
        return None
    fallen = [path for path in found if step_of(path) > stable]
    if not fallen:
        return None
    before = [path for path in found if step_of(path) <= stable and not _damage(path)]
    if not before:
        return "no checkpoint from before the learning rate fell is left: it rises again"
    for path in fallen:
        aside = path.with_name(f"aside_{step_of(path):08d}")
        shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
        path.rename(aside)
    write_text(run / "latest", before[0].name + "\n")
    _write_best(run)
    kept = "what came after is kept as checkpoints/aside_..."
    return f"going on from step {step_of(before[0]):,}, before the learning rate fell; {kept}"


def _remove_old(run: Path, config: RunConfig) -> None:
    """Removes the checkpoints that need not be kept, and what a kill left of a save or a removal."""
    for left in (run / "checkpoints").glob("*step_*.*"):
        shutil.rmtree(left)
    best, found = _write_best(run), checkpoints(run)
    stable = stable_steps(config.total_steps, config.training)
    for number, path in enumerate(found):
        every = config.keep_every is not None and step_of(path) % config.keep_every == 0
        if not (number < NEWEST or path == best or every or step_of(path) == stable):
            remove_folder(path)


def _write_best(run: Path) -> Path | None:
    """Notes the checkpoint with the lowest validation loss; the newer of two equal ones."""
    losses = {path: _validation_loss(path) for path in checkpoints(run)}
    known = {path: loss for path, loss in losses.items() if loss is not None}
    if not known:
        (run / "best").unlink(missing_ok=True)
        return None
    best = min(known, key=known.__getitem__)
    write_text(run / "best", best.name + "\n")
    return best


def _state(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))


def _validation_loss(checkpoint: Path) -> float | None:
    try:
        loss = _state(checkpoint).get("validation_loss")
        return None if loss is None else float(loss)
    except (OSError, ValueError, TypeError):
        return None


def _damage(checkpoint: Path, weights_only: bool = False) -> str | None:
    """What is wrong with a checkpoint, in words."""
    try:
        files = _state(checkpoint)["files"]
    except (OSError, ValueError, LookupError, TypeError):
        return f"{checkpoint / 'state.json'} is not readable"
    for name, sha256 in files.items():
        path = checkpoint / name
        if (name == WEIGHTS or not weights_only) and not (path.exists() and file_hash(path) == sha256):
            return f"{path} is missing or differs from its checksum"
    return None


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file and waits for the disk. Raises OSError with the system's number, which safetensors has in
    its text only, so that a full disk is the same error everywhere."""
    try:
        save_file(tensors, path, metadata)
        with open(path, "r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
    except SafetensorError as error:
        number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else 0
        raise OSError(number, os.strerror(number) if number else str(error), str(path)) from error


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
