"""Training steps on a card: ours, plain and compiled, beside nanoGPT compiled, each in a process of its own.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/train_gpu.py --nanogpt nanoGPT --batch 16 32 64
    python benchmarks/train_gpu.py --device cpu --small --rounds 1         does the script work? its figures mean nothing

GPT-2 124M and the modern model of 12 layers (with Muon), context 1,024, bfloat16; a step is `--accumulation` forward
passes of `--batch` windows of random tokens. A round runs every row once, in turns; figures are medians over the rounds,
each row at the batch that is best for it. MFU counts attention as if nothing were masked (plan.flops_per_token) against what
the card does in products of two matrices of 8,192, measured in the same round, and beside it the datasheet's figure.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

ROWS = {
    "nanoGPT, compiled": ("gpt2_original", "compiled"),
    "GPT-2 124M": ("gpt2_original", "compiled"),
    "GPT-2 124M, plain": ("gpt2_original", "plain"),
    "modern 124M, Muon": ("modern_124m", "compiled"),
    "modern 124M, Muon, plain": ("modern_124m", "plain"),
}
SECONDS, FEWEST = 20.0, 5  # of steps that a process times, after three to warm up


def preset(name: str, small: bool) -> dict[str, Any]:
    """A model's preset without dropout; `small`: two narrow layers of it."""
    from wikigpt.config import MODEL_CONFIGS

    fields = {**MODEL_CONFIGS[name], "drop_rate": 0.0}
    narrow = {"n_layers": 2, "emb_dim": 128, "n_heads": 2, "n_kv_heads": 0, "context_length": 64}
    return fields | narrow if small else fields


def ours(name: str, backend: str, asked: argparse.Namespace) -> Any:
    """Our own training_step, as `wikigpt train` has it: a function of inputs and targets."""
    import torch

    from wikigpt import hardware
    from wikigpt.backend import training_net
    from wikigpt.config import TRAINING_SETTINGS, ModelConfig, TrainingSettings
    from wikigpt.data.loader import Batch
    from wikigpt.optim import make_optimizer, training_step
    from wikigpt.transformer import GPTModel

    fields = preset(name, asked.small)
    machine = hardware.Machine(asked.device, "", "bfloat16", "as asked", 2, 0, 1.0, "", backend)
    parts = {"batch_size": asked.batch[0], "gradient_accumulation_steps": asked.accumulation}
    training = "modern_124m" if name == "modern_124m" else "large_models"
    settings = TrainingSettings(**TRAINING_SETTINGS[training] | parts)
    model = GPTModel(ModelConfig(**fields))
    net = training_net(model, machine)
    optimizer = make_optimizer(model, settings, "bfloat16")
    scaler = torch.amp.GradScaler(asked.device, enabled=False)
    return lambda inputs, targets: training_step(net, optimizer, scaler, Batch(inputs, targets), settings, machine)


def nanogpt(name: str, asked: argparse.Namespace) -> Any:
    """The step of nanoGPT's train.py with its defaults for a card: its vocabulary padded to 50,304, no biases, fused AdamW,
    bfloat16 by autocast, the whole model compiled, the next batch on its way while the card works."""
    import torch

    sys.path.insert(0, str(asked.nanogpt))
    import model as theirs

    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    fields = preset(name, asked.small)
    shape = (fields["context_length"], 50304, fields["n_layers"], fields["n_heads"], fields["emb_dim"])
    gpt = theirs.GPT(theirs.GPTConfig(*shape, 0.0, False)).to(asked.device)
    optimizer = gpt.configure_optimizers(0.1, 6e-4, (0.9, 0.95), asked.device)
    compiled = torch.compile(gpt)

    def step(inputs: Any, targets: Any) -> None:
        for part in range(asked.accumulation):
            rows = slice(part * asked.batch[0], (part + 1) * asked.batch[0])
            x, y = (t[rows] for t in (inputs, targets))
            if asked.device == "cuda":
                x, y = (t.pin_memory().to("cuda", non_blocking=True) for t in (x, y))
            with torch.amp.autocast(asked.device, dtype=torch.bfloat16):
                _, loss = compiled(x, y)
            (loss / asked.accumulation).backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def one(row: str, asked: argparse.Namespace) -> dict[str, float]:
    """What this process measures: one row, in tokens a second, and how much memory it took."""
    import torch

    from wikigpt.hardware import synchronize, used_memory

    name, backend = ROWS[row]
    start = time.perf_counter()
    step = nanogpt(name, asked) if row.startswith("nanoGPT") else ours(name, backend, asked)
    windows, context = asked.batch[0] * asked.accumulation, preset(name, asked.small)["context_length"]
    tokens = torch.randint(50257, (windows, context + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    step(inputs, targets)
    synchronize(asked.device)
    first = time.perf_counter() - start
    for _ in range(2):
        step(inputs, targets)
    synchronize(asked.device)
    begun, count = time.perf_counter(), 0
    while count < FEWEST or time.perf_counter() - begun < (1 if asked.small else SECONDS):
        step(inputs, targets)  # nothing waits for the card in between, as in a run
        count += 1
        if count % 4 == 0:
            synchronize(asked.device)
    synchronize(asked.device)
    seconds = time.perf_counter() - begun
    return {"speed": count * windows * context / seconds, "memory": used_memory(asked.device) / 2**30, "first": first}


def matmul_rate(device: str, n: int) -> float:
    """FLOP/s of a product of two bfloat16 matrices of n x n: the best of two seconds."""
    from torch import bfloat16

    from wikigpt.hardware import _matmul_speeds

    return _matmul_speeds(device, bfloat16, n=n, seconds=2.0)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--accumulation", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="two narrow layers, to see whether the script works")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one, asked)))
        return
    if asked.small:
        asked.batch, asked.accumulation = [2], 2
    compare(asked)


def compare(asked: argparse.Namespace) -> None:
    """All rows at all batches, in turns, and the table."""
    from wikigpt import hardware
    from wikigpt.cards import card_called
    from wikigpt.config import ModelConfig
    from wikigpt.plan import flops_per_token

    rows = [row for row in ROWS if asked.nanogpt or not row.startswith("nanoGPT")]
    found: dict[str, dict[int, list[dict[str, float]]]] = {row: {batch: [] for batch in asked.batch} for row in rows}
    rates = []
    for _ in range(asked.rounds):
        rates.append(matmul_rate(asked.device, 512 if asked.small else 8192))
        for batch in asked.batch:
            for row in rows:
                command = [sys.executable, __file__, "--one", row, "--device", asked.device, "--batch", str(batch)]
                command += ["--accumulation", str(asked.accumulation), *(["--small"] if asked.small else [])]
                command += ["--nanogpt", str(asked.nanogpt.resolve())] if asked.nanogpt else []
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:  # most likely it does not fit
                    last = done.stderr.strip().splitlines()[-1:]
                    print(f"{row}, batch {batch}: {''.join(last)}", file=sys.stderr, flush=True)
                    continue
                found[row][batch].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{row}, batch {batch}: {found[row][batch][-1]}", file=sys.stderr, flush=True)
    rate = median(rates)
    name = hardware.detect(asked.device, "bfloat16").name
    card = card_called(name)
    sheet = card.flops if card else 0.0
    of_sheet = f"{sheet / 1e12:,.0f} by its datasheet" if sheet else "no figure by datasheet"
    print(f"\n{name}: {rate / 1e12:,.2f} TFLOP/s measured, {of_sheet}\n")
    print("| | batch | tokens/s | MFU of measured | of datasheet | GiB | s to the first step |\n" + "|---" * 7 + "|")
    for row, batches in found.items():
        measured = {batch: median(r["speed"] for r in runs) for batch, runs in batches.items() if runs}
        if not measured:
            continue
        batch = max(measured, key=lambda b: measured[b])
        runs, speed = batches[batch], measured[batch]
        fields = preset(ROWS[row][0], asked.small)
        flops = speed * flops_per_token(ModelConfig(**fields))
        cells = [row, f"{batch} x {asked.accumulation}", f"{speed:,.0f}", f"{flops / rate:.1%}"]
        cells += [f"{flops / sheet:.1%}" if sheet else "", f"{median(r['memory'] for r in runs):.1f}"]
        print("| " + " | ".join([*cells, f"{median(r['first'] for r in runs):.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
