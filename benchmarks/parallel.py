"""What several ranks cost and what Muon costs on them, measured with processes of this machine over gloo.

    python benchmarks/parallel.py --ranks 2 --rounds 5 --model_config modern_small

Each row is the optimiser's step alone, on gradients that are there: one process; ours under DDP, its matrices shared out;
ours under FSDP2, each matrix gathered on one rank; ours on FSDP2's DTensors as they are, which gathers and scatters inside
of every product; PyTorch's own Muon on them; and, where nothing is shared, every rank doing all of it. In turns, medians.
Then whole training steps: one process, DDP, FSDP2. All on as many threads in all: `--threads` over the ranks.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

ROWS = ("alone", "ddp", "ddp, not shared", "fsdp", "fsdp, DTensor products", "fsdp, torch.optim.Muon")


def optimizer_for(row: str, model: Any, settings: Any, dtype: str, world: Any) -> Any:
    """The optimiser of the matrices that Muon moves, and of nothing else."""
    import torch

    from wikigpt import optim
    from wikigpt.parallel import ALONE

    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.dim() == 2]
    if row == "fsdp, torch.optim.Muon":
        return torch.optim.Muon(matrices, lr=0.02, momentum=0.95)
    if row == "fsdp, DTensor products":
        optim.in_parts, optim.own, world = lambda _: False, lambda tensor: tensor, ALONE
    group = {"params": matrices, "weight_decay": 0.1, "lr": 0.02, "factor": 1.0, "momentum": 0.95, "parts": 1}
    world = ALONE if row == "ddp, not shared" else world
    muon = optim.Muon([group], optim.DTYPES[dtype], world, lr=0.02)
    return muon


def one_rank(row: str, asked: argparse.Namespace) -> None:
    """Times a row; the first rank prints seconds of each step, and bytes in use."""
    import torch

    from wikigpt import hardware
    from wikigpt.backend import training_net
    from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings
    from wikigpt.data.loader import Batch
    from wikigpt.optim import make_optimizer, training_step
    from wikigpt.parallel import joined
    from wikigpt.transformer import GPTModel

    hardware.keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with joined(device) as world:
        threads = max(1, asked.threads // world.local_size)
        torch.set_num_threads(threads)
        backend = asked.backend or ("compiled" if device == "cuda" else "kernels")
        machine = hardware.Machine(device, "", asked.dtype, "", threads, 0, 1.0, "", backend, world)
        config = ModelConfig(**MODEL_CONFIGS[asked.model_config])
        torch.manual_seed(0)
        parts = {"batch_size": asked.batch_size, "gradient_accumulation_steps": 1, "optimizer": "muon"}
        settings = TrainingSettings(**TRAINING_SETTINGS["small_models"] | parts)
        model = GPTModel(config)
        how = row.split(",")[0]
        net = training_net(model, machine, how if how in ("ddp", "fsdp") else "")
        times = []
        if asked.whole_steps:
            optimizer = make_optimizer(model, settings, asked.dtype, world)
            scaler = torch.amp.GradScaler(device, enabled=False)
            share = asked.batch_size // world.size
            tokens = torch.randint(config.vocab_size, (share, config.context_length + 1))
            batch = Batch(tokens[:, :-1], tokens[:, 1:])
            step = lambda: training_step(net, optimizer, scaler, batch, settings, machine)  # noqa: E731
        else:
            optimizer = optimizer_for(row, model, settings, asked.dtype, world)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            step = optimizer.step
        for _ in range(asked.steps + 2):
            world.any(False)
            start = time.perf_counter()
            step()
            hardware.synchronize(device)
            world.any(False)
            times.append(time.perf_counter() - start)
        if world.first:
            print(json.dumps({"seconds": times[2:], "memory": hardware.used_memory(device)}))


def measure(row: str, asked: argparse.Namespace) -> dict[str, Any] | None:
    ranks = 1 if row == "alone" else asked.ranks
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    command = [sys.executable, *torchrun, __file__, *sys.argv[1:], "--row", row]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{row}: {done.stderr.strip().splitlines()[:3]}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_config", default="modern_small")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--backend")
    parser.add_argument("--whole_steps", action="store_true")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row is not None:
        return one_rank(asked.row, asked)
    rows = ("alone", "ddp", "fsdp") if asked.whole_steps else ROWS
    found: dict[str, list[dict[str, Any]]] = {row: [] for row in rows}
    for _ in range(asked.rounds):
        for row in rows:
            if (one := measure(row, asked)) is not None:
                found[row].append(one)
    print("| | milliseconds of a step | of the first row | GiB of the first rank |\n" + "|---" * 4 + "|")
    first = None
    for row, runs in found.items():
        if not runs:
            print(f"| {row} | failed | | |")
            continue
        milliseconds = median(1e3 * median(run["seconds"]) for run in runs)
        first = first or milliseconds
        memory = median(run["memory"] for run in runs) / 2**30
        print(f"| {row} | {milliseconds:.1f} | {milliseconds / first:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
