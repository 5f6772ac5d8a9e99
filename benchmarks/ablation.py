"""What each technique is worth: the same model on the same tokens without it, three seeds, with error bars.

    python benchmarks/ablation.py                          2 layers of 128, 1.2 million tokens: about 20 minutes on two cores
    python benchmarks/ablation.py --shape "--n_layers 4 --emb_dim 256 --n_heads 4" --steps 300

Every row is `wikigpt train` with the demo's presets and flags of its own, in a process with one thread; seeds come in turns.
The number of tokens is the same for all, and no token comes twice, so that time plays no part. Prints a Markdown table: bits
per byte on all of the validation split, mean and standard error, and what the row loses or gains against the first one.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grid

SHAPE = "--n_layers 2 --emb_dim 128 --n_heads 2 --n_kv_heads 2 --ffn_dim 344 --tie_embeddings True --batch_size 8"
ROWS = {
    "all of it": "",
    "AdamW for the matrices too (rate 2e-3)": "--optimizer adamw --learning_rate 2e-3 --warmup_steps 100",
    "AdamW for the matrices too (rate 1e-3)": "--optimizer adamw --learning_rate 1e-3 --warmup_steps 100",
    "momentum 0.95": "--momentum 0.95",
    "blocks that begin at zero": "--zero_init True",
    "no weight decay": "--weight_decay 0",
    "the rate falls over the last fifth only": "--decay_share 0.2",
    "a head of its own (40% more parameters)": "--tie_embeddings False",
    "pairs of heads share keys and values": "--n_heads 4 --head_dim 32 --ffn_dim 384",
}
GPT2 = "--arch gpt2 --qkv_bias True --n_layers 2 --emb_dim 128 --n_heads 2 --n_kv_heads 2 --ffn_dim 512 --batch_size 8"
GPT2_ROWS = {
    "a GPT-2 with all of it": "",
    "a GPT-2 with AdamW (rate 2e-3)": "--optimizer adamw --learning_rate 2e-3 --warmup_steps 100",
    "a GPT-2, blocks that begin at zero": "--zero_init True",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default=SHAPE, help="flags of wikigpt train, the same for all rows but GPT-2's")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--wiki", default="en")
    asked = parser.parse_args()
    rows = {name: f"{asked.shape} {flags}" for name, flags in ROWS.items()}
    rows |= {name: f"{GPT2} {flags}" for name, flags in GPT2_ROWS.items()}
    length = f"--max_steps {asked.steps} --threads 1 --eval_every {asked.steps}"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare = [sys.executable, "-m", "wikigpt", "prepare", "--source", "sample", "--wiki", asked.wiki]
        subprocess.run(prepare, cwd=folder, check=True, capture_output=True)

        def bits(seed: int, number: int, name: str) -> float:
            run = grid.run(rows[name], length, seed, asked.wiki, f"row{number}-seed{seed}", folder)
            print(f"seed {seed}  {run['bits_per_byte']:.4f}  {name}", file=sys.stderr, flush=True)
            return run["bits_per_byte"]

        with ThreadPoolExecutor(asked.jobs) as pool:
            jobs = {(name, s): pool.submit(bits, s, n, name) for s in range(asked.seeds) for n, name in enumerate(rows)}
            found = {name: [jobs[name, seed].result() for seed in range(asked.seeds)] for name in rows}
    print("| | bits per byte | against the first |\n|---|---|---|")
    first = found["all of it"]
    for name, values in found.items():
        away = [value - other for value, other in zip(values, first, strict=True)]
        error = f" ± {standard_error(away):.3f}" if name != "all of it" else ""
        difference = f"{statistics.mean(away):+.3f}{error}" if name != "all of it" else ""
        print(f"| {name} | {statistics.mean(values):.3f} ± {standard_error(values):.3f} | {difference} |")


def standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


if __name__ == "__main__":
    main()
