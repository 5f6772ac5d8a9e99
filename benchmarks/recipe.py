"""The loss that nanoGPT's recipe reaches, with half its tokens: two sizes, three seeds, the same text and tokenizer.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/recipe.py --nanogpt nanoGPT             nanoGPT's grid and seeds, then ours: some hours of one core
    python benchmarks/recipe.py                               ours alone

nanoGPT (see nanogpt.py) is tuned over rate and windows a step in factors of two until the best has no better neighbour;
that one is run with three seeds. Ours are the demo's presets on half the tokens, no token twice, in shapes with as many
parameters within 2%. Each run is a process with one thread, so that two of them do not disturb each other; time plays no
part. Prints bits per byte on all of the validation split.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grid
import nanogpt

# Layers and width of nanoGPT, its tokens, and the (windows of 256 a step, rate) that were tried, the best one first.
SIZES = {
    2: (128, 2_500_000, [(4, 2e-3), (4, 1e-3), (4, 4e-3), (8, 2e-3), (2, 2e-3), (2, 1e-3), (8, 4e-3)]),
    4: (256, 1_250_000, [(4, 1e-3), (4, 2e-3), (2, 1e-3), (8, 1e-3)]),
}
SEEDS = range(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(asked.jobs) as pool:
        folder = Path(place)
        prepare = [sys.executable, "-m", "wikigpt", "prepare", "--source", "sample", "--wiki", "en"]
        subprocess.run(prepare, cwd=folder, check=True, capture_output=True)

        def theirs(layers: int, batch: int, rate: float, seed: int) -> float:
            width, tokens, _ = SIZES[layers]
            steps, data = tokens // (batch * 256), folder / "dataset" / "en"
            clone = asked.nanogpt.resolve()
            run = nanogpt.run(clone, data, layers, width, 256, batch, rate, steps, seed, warmup=100, threads=1)
            return say(f"nanoGPT {layers} x {width}, batch {batch}, rate {rate:g}, seed {seed}", run, tokens)

        def ours(layers: int, seed: int) -> float:
            width, tokens, _ = SIZES[layers]
            length = f"--max_steps {tokens // 2 // (8 * 256)} --threads 1 --n_layers {layers} --emb_dim {width} "
            length += f"--n_heads {layers} --n_kv_heads 2 --batch_size 8 --tie_embeddings True"
            run = grid.run("", length, seed, "en", f"r{layers}-{seed}", folder)
            return say(f"ours {layers} x {width}, seed {seed}", run, tokens // 2)

        jobs = []
        if asked.nanogpt is not None:
            for layers, (_, _, tried) in SIZES.items():
                jobs += [
                    pool.submit(theirs, layers, *row, seed)
                    for row in tried
                    for seed in SEEDS
                    if seed == 0 or row == tried[0]
                ]
        for layers in SIZES:
            mine = [pool.submit(ours, layers, seed) for seed in SEEDS]
            values = [job.result() for job in mine]
            print(f"ours, {layers} layers: {statistics.mean(values):.4f} on average", flush=True)
        for job in jobs:
            job.result()


def say(name: str, figures: dict[str, float], tokens: int) -> float:
    print(f"{figures['bits_per_byte']:.4f}  {name}, {tokens:,} tokens", flush=True)
    return figures["bits_per_byte"]


if __name__ == "__main__":
    main()
