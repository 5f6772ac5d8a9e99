"""How long from the bundled sample to what nanoGPT reaches in ten minutes, on this CPU, by the clock on the wall.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/speedrun.py --nanogpt nanoGPT                 nanoGPT first (ten minutes each row), then ours
    python benchmarks/speedrun.py --target 1.75 --seeds 3           ours alone, against a figure

Ours: `wikigpt prepare` and `wikigpt train` as processes of their own, with the demo's presets and a fixed number of steps;
the clock runs from the start of the first to the end of the second, so it has importing torch, the samples and the plots in
it. It has got there if the loss on all of the validation split, at the end, is not above the target. nanoGPT: its own
train.py (see nanogpt.py) on the same tokens; the clock holds its steps alone, and its cosine ends with them. Nothing else
should run meanwhile.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nanogpt

MINUTES = 10.0
# Layers, width, windows of 256 tokens a step, rate: the best of the grid in records.md that fills two cores.
NANOGPT_ROWS = ((2, 128, 8, 2e-3),)


def ours(wiki: str, steps: int, flags: str, seed: int) -> tuple[float, float]:
    """Seconds from nothing to a finished run, and its bits per byte on all of validation."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "wikigpt"]
        start = time.perf_counter()
        prepare = [*command, "prepare", "--wiki", wiki, "--source", "sample"]
        subprocess.run(prepare, cwd=place, check=True, capture_output=True)
        train = ["train", "--run", "r", "--model_config", "modern_tiny", "--training_setting", "small_models"]
        train += ["--max_steps", str(steps), "--seed", str(seed)]
        train += ["--eval_every", str(steps), *shlex.split(flags)]  # once, at the end, as nanoGPT's
        subprocess.run([*command, *train], cwd=place, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        rows = [json.loads(line) for line in Path(place, "models/r/metrics.jsonl").read_text().splitlines()]
        return seconds, next(row for row in rows if row["kind"] == "final")["bits_per_byte"]


def theirs(clone: Path, data: Path, layers: int, width: int, batch: int, rate: float) -> dict[str, float]:
    """nanoGPT for ten minutes of steps: timed for a few seconds, then a run of as many as fit."""
    few = [nanogpt.run(clone, data, layers, width, 256, batch, rate, n, 0, 100)["seconds"] for n in (30, 130)]
    iterations = round(MINUTES * 60 / ((few[1] - few[0]) / 100))
    figures = nanogpt.run(clone, data, layers, width, 256, batch, rate, iterations, 0, 100)
    return figures | {"iterations": iterations, "tokens": iterations * batch * 256}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--target", type=float, help="bits per byte, where nanoGPT need not run again")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--flags", default="", help="of wikigpt train, over the demo's presets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--wiki", default="en")
    asked = parser.parse_args()
    target = asked.target
    if asked.nanogpt is not None:
        with tempfile.TemporaryDirectory() as place:
            prepare = [sys.executable, "-m", "wikigpt", "prepare", "--wiki", asked.wiki, "--source", "sample"]
            subprocess.run(prepare, cwd=place, check=True, capture_output=True)
            found = []
            for layers, width, batch, rate in NANOGPT_ROWS:
                row = theirs(asked.nanogpt.resolve(), Path(place, "dataset", asked.wiki), layers, width, batch, rate)
                found.append(row["bits_per_byte"])
                print(f"nanoGPT {layers} x {width}, batch {batch}, rate {rate:g}: {json.dumps(row)}", flush=True)
            target = min(found)
    if target is None:
        parser.error("name a clone with --nanogpt, or a figure with --target")
    print(f"target: {target:.4f} bits per byte")
    times = []
    for seed in range(asked.seeds):
        seconds, bits = ours(asked.wiki, asked.steps, asked.flags, seed)
        times.append(seconds)
        reached = "reached" if bits <= target else "NOT reached"
        print(f"ours, seed {seed}: {bits:.4f} bits per byte after {seconds:.0f} s: {reached}", flush=True)
    print(f"median: {statistics.median(times):.0f} s")


STEPS = 440

if __name__ == "__main__":
    main()
