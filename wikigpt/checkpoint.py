"""A run's state on disk: full tensors in safetensors, the rest in JSON, no pickle.

    models/<run>/checkpoints/step_00000100/model.safetensors       weights, float32
                                           optimizer.safetensors   moments by parameter
                                           state.json              step, validation loss, SHA-256 of both files
    models/<run>/latest, best                                      "step_00000100"

The first rank writes and reads; what others have of a tensor it gets from them and gives to them, one tensor after the
other. So a checkpoint is the same from any number of ranks, whole or in parts, and any number can go on from it.

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
from wikigpt.parallel import ALONE, World, own, parameters, spread, whole
from wikigpt.runs import checkpoints, step_of
from wikigpt.transformer import GPTModel, pad_rows

NEWEST = 2  # kept, whatever they are
WEIGHTS = "model.safetensors"
MOMENTS = "optimizer.safetensors"


def save_checkpoint(
    run: Path,
    config: RunConfig,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    validation_loss: float | None,
    world: World = ALONE,
) -> None:
    """Writes the state after `step` optimiser steps, with its validation loss where it was measured, and removes the
    checkpoints that need not be kept. Raises OSError where it cannot be written; nothing is lost then."""
    weights = _whole_tensors(dict(parameters(model)), world)
    moments = _whole_tensors(_moments(model, optimizer), world)
    if not world.first:
        return
    final = run / "checkpoints" / f"step_{step:08d}"
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_tensors(weights, partial / WEIGHTS)
        save_tensors(moments, partial / MOMENTS)
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


def load_weights(checkpoint: Path, model: GPTModel) -> int:
    """Copies the weights of a checkpoint into the model and returns its step."""
    fill(model, load_file(checkpoint / WEIGHTS), str(checkpoint))
    return int(_state(checkpoint)["step"])


def load_checkpoint(
    checkpoint: Path,
    model: GPTModel,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    world: World = ALONE,
) -> int:
    """Brings model, optimiser and scaler back to where they were saved; returns the step."""
    weights, moments = (load_file(checkpoint / name) if world.first else {} for name in (WEIGHTS, MOMENTS))
    state, scalars = world.from_first(lambda: (_state(checkpoint), {key: t.dim() == 0 for key, t in moments.items()}))
    fill(model, weights, str(checkpoint), world)
    named = parameters(model)
    for key, scalar in scalars.items():
        name, _, quantity = key.rpartition("/")
        if name in named:  # others are random states, which earlier versions kept
            like = named[name].detach()
            like = torch.zeros((), device=like.device) if scalar else like
            optimizer.state[named[name]][quantity] = spread(moments.get(key), like, world)
    if state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    return int(state["step"])


def fill(model: GPTModel, weights: dict[str, Tensor], place: str, world: World = ALONE) -> None:
    """Copies whole tensors, which the first rank has from a `place`, into the model. Raises RunError where they are of
    another one."""
    world.from_first(lambda: _check_names(model, weights, place))
    with torch.no_grad():
        for name, parameter in parameters(model).items():
            own(parameter).copy_(own(spread(weights.get(name), parameter.detach(), world)))


def _check_names(model: GPTModel, weights: dict[str, Tensor], place: str) -> None:
    pad_rows(model, weights)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        problem = f"The weights in {place} are of another model than its run.json."
        raise RunError(problem, "Restore run.json, or start over with --fresh.")


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
        measured = run / "evaluation"  # by the name of the checkpoint: what was measured of it goes first, and with it
        if (measured / path.name).exists():
            shutil.rmtree(measured / aside.name, ignore_errors=True)
            (measured / path.name).rename(measured / aside.name)
        for ladder in measured.glob("ladder_*"):  # it has the old weights under a name that will come again
            ladder.unlink()
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


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{quantity}": tensor
        for name, parameter in parameters(model).items()
        for quantity, tensor in optimizer.state[parameter].items()
    }


def _whole_tensors(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """On the CPU of the first rank; the others only help, one tensor after the other, so that no card holds them all."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if world.first:
            found[name] = full.cpu().contiguous()
    return found
