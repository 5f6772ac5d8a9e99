"""A scaling law of our own: some sizes on the same tokens, a fit with error bars, and a size that the fit never saw.

    python benchmarks/scaling.py --data dataset/en --runs /tmp/scaling

(half an hour on two cores; the same command goes on where it stopped)

Every size reads the same number of tokens, each with several seeds. Fitted is

    bits per byte(N) = E + A * N ** -alpha        N: FLOPs a token / 6, so parameters that multiply, and attention

by Hoffmann et al. 2022's third approach (section 3.3): Huber loss of the logarithms, delta 1e-3, L-BFGS from a grid of
starts; its terms are added up and not averaged, and the tolerance is tight, without which Besiroglu et al. 2024 found such
fits unfinished. Error bars: the same fit on runs drawn anew within each size (bootstrap). The largest size is left out.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
from scipy.optimize import minimize

from wikigpt.config import RunConfig
from wikigpt.metrics import read_metrics
from wikigpt.plan import flops_per_token

matplotlib.use("Agg")
from matplotlib import pyplot

BATCH, CONTEXT = 16, 256
DRAWS = 500
SIZES = [(1, 32), (2, 64), (2, 96), (3, 128), (3, 160), (4, 224)]  # layers and width; the last is left out of the fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs and the picture")
    parser.add_argument("--tokens", type=float, default=2.5e6)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    asked.runs.mkdir(parents=True, exist_ok=True)
    sizes, losses = [], []
    for layers, width in SIZES:
        runs = [run(asked, layers, width, seed) for seed in range(asked.seeds)]
        sizes.append(runs[0][0])
        losses.append([bits for _, bits in runs])
        measured = ", ".join(f"{bits:.4f}" for bits in losses[-1])
        print(f"{layers} x {width}: N {sizes[-1] / 1e6:.3f} million, bits per byte {measured}", flush=True)
    report(np.array(sizes), np.array(losses), asked.runs / "scaling.png")


def run(asked: argparse.Namespace, layers: int, width: int, seed: int) -> tuple[float, float]:
    """N, and bits per byte on all of validation. Modern models; the rate falls with the root of the width, as in presets."""
    path = asked.runs / "models" / f"{layers}x{width}s{seed}"
    steps = round(asked.tokens / BATCH / CONTEXT)
    if (path / "run.json").exists() and RunConfig.load(path / "run.json").total_steps != steps:
        sys.exit(f"{path} is of another length: take another --runs.")
    command = f"train --model_config modern_tiny --training_setting small_models --run {path.name}"
    command += f" --data {asked.data.resolve()}"
    command += f" --n_layers {layers} --emb_dim {width} --n_heads {width // 32} --n_kv_heads 1 --head_dim 32"
    command += f" --ffn_dim {3 * width} --learning_rate {4e-3 * (768 / width) ** 0.5:.2g} --batch_size {BATCH}"
    command += f" --context_length {CONTEXT} --seed {seed} --max_steps {steps} --eval_every {steps}"
    if not read_metrics(path, "final"):
        subprocess.run(
            [sys.executable, "-m", "wikigpt", *command.split()], cwd=asked.runs, check=True, stderr=subprocess.DEVNULL
        )
    (final,) = read_metrics(path, "final")
    return flops_per_token(RunConfig.load(path / "run.json").model) / 6, final["bits_per_byte"]


def law(logs: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Bits per byte from (log E, log A, alpha)."""
    return np.exp(logs[0]) + np.exp(logs[1]) * sizes ** -logs[2]


def fit(sizes: np.ndarray, bits: np.ndarray, starts: list[tuple[float, float, float]]) -> np.ndarray:
    """The parameters whose logarithms of bits are nearest to those measured."""

    def huber(logs: np.ndarray) -> float:
        off = np.abs(np.log(law(logs, sizes)) - np.log(bits))
        return float(np.where(off < 1e-3, off**2 / 2, 1e-3 * (off - 5e-4)).sum()) * 1e6

    found = [
        minimize(huber, start, method="L-BFGS-B", bounds=BOUNDS, options={"ftol": 1e-14, "maxiter": 5000})
        for start in starts
    ]
    return min(found, key=lambda one: one.fun).x


BOUNDS = [(-3.0, 2.0), (-5.0, 15.0), (0.01, 2.0)]  # of log E, log A, alpha
GRID = [(np.log(e), a, alpha) for e in (0.5, 1.0, 1.3) for a in (1.0, 3.0, 5.0) for alpha in (0.1, 0.3, 0.5)]


def report(sizes: np.ndarray, losses: np.ndarray, path: Path) -> None:
    """The law, its error bars, and what it says of the size that was left out."""
    known, seeds = sizes[:-1], losses.shape[1]

    def fitted(chosen: np.ndarray, starts: list[tuple[float, float, float]]) -> np.ndarray:
        return fit(np.repeat(known, seeds), chosen.ravel(), starts)

    best = fitted(losses[:-1], GRID)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        pick = random.integers(0, seeds, losses[:-1].shape)
        drawn.append(fitted(np.take_along_axis(losses[:-1], pick, 1), [tuple(best)]))
    spread = np.array(drawn)
    names = {"E": np.exp(spread[:, 0]), "A": np.exp(spread[:, 1]), "alpha": spread[:, 2]}
    values = {"E": np.exp(best[0]), "A": np.exp(best[1]), "alpha": best[2]}
    record = {name: [float(values[name]), *np.percentile(names[name], [2.5, 97.5])] for name in names}
    foreseen = law(best, sizes[-1:])[0]
    low, high = np.percentile([law(one, sizes[-1:])[0] for one in spread], [2.5, 97.5])
    measured = losses[-1]
    record |= {"left out": [float(sizes[-1]), float(foreseen), float(low), float(high), *map(float, measured)]}
    print(json.dumps(record, indent=1))
    print(
        f"foreseen {foreseen:.4f} ({low:.4f} to {high:.4f}), measured {measured.mean():.4f} +- {measured.std(ddof=1):.4f}"
    )
    line = np.geomspace(sizes[0] / 1.5, sizes[-1] * 1.5, 100)
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    bands = np.percentile([law(one, line) for one in spread], [2.5, 97.5], axis=0)
    axes.fill_between(line / 1e6, *bands, alpha=0.2, color="#1f6fb4", label="95% of the fits")
    axes.plot(
        line / 1e6,
        law(best, line),
        color="#1f6fb4",
        label=f"{values['E']:.2f} + {values['A']:.1f} N^-{values['alpha']:.2f}",
    )
    axes.plot(np.repeat(known, seeds) / 1e6, losses[:-1].ravel(), "o", color="#444444", markersize=4, label="fitted")
    axes.plot(
        np.repeat(sizes[-1], seeds) / 1e6, measured, "D", color="#d1495b", markersize=5, label="left out of the fit"
    )
    axes.set(xscale="log", xlabel="N: million FLOPs a token / 6", ylabel="bits per byte, validation")
    axes.legend(framealpha=0)
    axes.grid(alpha=0.25, which="both")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
