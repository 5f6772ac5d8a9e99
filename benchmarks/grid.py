"""Which small model and settings learn most in a given time on this machine: the grid behind two presets.

    python benchmarks/grid.py --seeds 1 -- "" "--learning_rate 2e-3" "--emb_dim 256 --n_layers 4"
    python benchmarks/grid.py --length "--max_steps 1500" -- "" "--schedule cosine"

Each argument after `--` is a row: flags of `wikigpt train` laid over `modern_tiny` and `small_models` (an empty one: as they
are). Rows are run one after the other, each seed as a process of its own, interleaved so that a slow spell of the machine
meets every row; the table shows medians. Nothing else should run meanwhile. Prints a Markdown table.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import wikigpt


def run(flags: str, length: str, seed: int, wiki: str, name: str, folder: Path) -> dict[str, float]:
    """Trains one row in a process of its own and returns its last figures."""
    command = [sys.executable, "-m", "wikigpt", "train", "--data", wiki, "--run", name]
    command += [
        "--model_config",
        "modern_tiny",
        "--training_setting",
        "small_models",
        *shlex.split(length),
        "--seed",
        str(seed),
        *shlex.split(flags),
    ]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.PIPE)
    rows = [json.loads(line) for line in (folder / "models" / name / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["kind"] == "train"][-1]
    final = next(row for row in rows if row["kind"] == "final")
    return {**final, "seconds": last["seconds"], "steps": last["step"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", default="--hours 0.05", help="flags of wikigpt train")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--wiki", default="en")
    parser.add_argument("rows", nargs="+")
    asked = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {flags: [] for flags in asked.rows}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        subprocess.run(
            [sys.executable, "-m", "wikigpt", "prepare", "--source", "sample", "--wiki", asked.wiki],
            cwd=folder,
            check=True,
        )
        for seed in range(asked.seeds):
            for number, flags in enumerate(asked.rows):
                figures = run(flags, asked.length, seed, asked.wiki, f"row{number}-seed{seed}", folder)
                results[flags].append(figures)
                print(
                    f"seed {seed}  {figures['bits_per_byte']:.4f}  {flags or '(presets)'}", file=sys.stderr, flush=True
                )
    print(f"wikigpt {wikigpt.__version__}, {asked.wiki}, {asked.length}, median of {asked.seeds} seeds\n")
    print(
        "| bits per byte | bigram | tokens | tokens/s | flags over `modern_tiny` and `small_models` |\n|---|---|---|---|---|"
    )
    for flags, runs in sorted(results.items(), key=lambda item: statistics.median(r["bits_per_byte"] for r in item[1])):
        middle = {k: statistics.median(r[k] for r in runs) for k in runs[0] if isinstance(runs[0][k], int | float)}
        speed = middle["tokens"] / middle["seconds"]
        bits = f"{middle['bits_per_byte']:.3f} | {middle['bigram_bits_per_byte']:.3f}"
        print(f"| {bits} | {middle['tokens'] / 1e6:.2f} M | {speed:,.0f} | {flags or '(presets)'} |")


if __name__ == "__main__":
    main()
