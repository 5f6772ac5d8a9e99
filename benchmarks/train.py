"""Training steps on this CPU: ours beside nanoGPT, transformers and litgpt, each in a process of its own.

    git clone https://github.com/karpathy/nanoGPT
    git clone https://github.com/Lightning-AI/litgpt
    python benchmarks/train.py --nanogpt nanoGPT --litgpt litgpt --model 16m 124m

A round runs every row once, one after the other; a figure is the median over the rounds, a ratio the median of the ratios
within rounds. "kept": with the C library told to keep freed memory (docs/adr/0008), as ours always is. All have the same
shape of GPT-2 without dropout, the same number of random tokens a step, AdamW and clipping. litgpt needs `lightning`, in an
interpreter named with --litgpt_python. `--curves` instead compares our losses on real text with those in float32.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from nanogpt import FREED_MEMORY_KEPT

# Layers, width, heads, context, windows a step; GPT-2's vocabulary.
SHAPES = {"16m": (4, 256, 4, 256, 8), "124m": (12, 768, 12, 1024, 1)}
VOCABULARY = 50257
Step = Callable[[Any, Any], float]  # inputs and targets to the loss
SECONDS, FEWEST = 6.0, 4  # of steps that a process times, after two to warm up


def ours(shape: tuple[int, ...], backend: str, dtype: str = "bfloat16", rate: float = 1e-3) -> Step:
    """Our own training_step, as `wikigpt train` has it."""
    import torch

    from wikigpt import hardware
    from wikigpt.backend import training_net
    from wikigpt.config import TRAINING_SETTINGS, ModelConfig, TrainingSettings
    from wikigpt.data.loader import Batch
    from wikigpt.optim import make_optimizer, training_step
    from wikigpt.transformer import GPTModel

    hardware.keep_freed_memory()
    layers, width, heads, context, windows = shape
    threads = hardware.physical_cores()
    torch.set_num_threads(threads)
    machine = hardware.Machine("cpu", "", dtype, "as asked", threads, 0, 1.0, "", backend)
    changes = {"batch_size": windows, "weight_decay": 0.1, "learning_rate": rate}
    settings = TrainingSettings(**TRAINING_SETTINGS["fast"] | changes)
    model = GPTModel(ModelConfig(VOCABULARY, context, width, heads, layers, 0.0, True))
    net = training_net(model, machine)
    optimizer = make_optimizer(model, settings, dtype)
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def step(inputs: Any, targets: Any) -> float:
        return float(training_step(net, optimizer, scaler, Batch(inputs, targets), settings, machine)[0])

    return step


def peer(gpt: Any, optimizer: Any, loss_of: Callable[[Any, Any], Any]) -> Step:
    """A step as all peers do it."""
    import torch

    def step(inputs: Any, targets: Any) -> float:
        loss = loss_of(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def nanogpt(shape: tuple[int, ...], clone: Path) -> Step:
    """nanoGPT's model as its train.py trains it: on a CPU it is float32, and its AdamW is not fused."""
    sys.path.insert(0, str(clone))
    import model as theirs

    layers, width, heads, context, _ = shape
    gpt = theirs.GPT(theirs.GPTConfig(context, VOCABULARY, layers, heads, width, 0.0, True))
    optimizer = gpt.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")

    return peer(gpt, optimizer, lambda inputs, targets: gpt(inputs, targets)[1])


def transformers(shape: tuple[int, ...], dtype: str) -> Step:
    """GPT2LMHeadModel, weights and all in `dtype`, with torch's AdamW."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width, heads, context, _ = shape
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(n_positions=context, n_embd=width, n_layer=layers, n_head=heads, use_cache=False, **none)
    gpt = GPT2LMHeadModel(config).to(getattr(torch, dtype))
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def loss(inputs: Any, targets: Any) -> Any:
        return torch.nn.functional.cross_entropy(gpt(inputs).logits.flatten(0, 1), targets.flatten())

    return peer(gpt, optimizer, loss)


def litgpt(shape: tuple[int, ...], clone: Path) -> Step:
    """litgpt's GPT in the shape of a GPT-2 but with rotary positions, the loss of its pretrain.py (chunks of 128), AdamW,
    float32."""
    import torch

    sys.path.insert(0, str(clone))
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    layers, width, heads, context, _ = shape
    config = Config(
        block_size=context, vocab_size=VOCABULARY, padded_vocab_size=50304, n_layer=layers, n_head=heads, n_embd=width,
        rotary_percentage=1.0, parallel_residual=False, bias=True, norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP",
    )  # fmt: skip
    gpt = GPT(config)
    gpt.lm_head.weight = gpt.transformer.wte.weight
    gpt.max_seq_length = context
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    return peer(gpt, optimizer, lambda inputs, targets: chunked_cross_entropy(gpt(inputs), targets))


def one(row: str, asked: argparse.Namespace) -> dict[str, float]:
    """What this process measures: one row, in tokens a second, and how much memory it took."""
    import torch
    from psutil import cpu_count

    start = time.perf_counter()
    shape = SHAPES[asked.model[0]]
    torch.set_num_threads(cpu_count(logical=False) or 1)
    made = {
        "ours": lambda: ours(shape, "kernels"),
        "ours, plain": lambda: ours(shape, "plain"),
        "nanoGPT": lambda: nanogpt(shape, asked.nanogpt),
        "HF float32": lambda: transformers(shape, "float32"),
        "HF bfloat16": lambda: transformers(shape, "bfloat16"),
        "litgpt": lambda: litgpt(shape, asked.litgpt),
    }
    step = made[row]()
    *_, context, windows = shape
    tokens = torch.randint(VOCABULARY, (windows, context + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    step(inputs, targets)
    first = time.perf_counter() - start
    step(inputs, targets)
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < FEWEST:
        begun = time.perf_counter()
        step(inputs, targets)
        times.append(time.perf_counter() - begun)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    return {"tokens_per_second": windows * context / median(times), "memory": memory, "first": first}


def gemm(n: int = 2048) -> float:
    """GFLOP/s of a product of two bfloat16 matrices of n x n: the best of two seconds."""
    import torch

    matrix, best = torch.randn(n, n, dtype=torch.bfloat16), float("inf")
    end = time.perf_counter() + 2
    while time.perf_counter() < end:
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--litgpt", type=Path, help="a clone of github.com/Lightning-AI/litgpt")
    parser.add_argument("--litgpt_python", default=sys.executable)
    parser.add_argument("--model", nargs="+", choices=SHAPES, default=["16m"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", help="only these, with commas")
    parser.add_argument("--curves", action="store_true", help="losses of ours in bfloat16 and in plain float32")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one, asked)))
        return
    for model in asked.model:
        if asked.curves:
            curves(model)
        else:
            compare(model, asked)


def curves(model: str, steps: int = 40) -> None:
    """The same first weights and batches of real text, both ways: the mean of the last 8 of 40 losses."""
    import torch

    from wikigpt.data.loader import TrainingBatches
    from wikigpt.data.shards import DataFolder

    *_, context, windows = SHAPES[model]
    with tempfile.TemporaryDirectory() as place:
        prepare = ["prepare", "--wiki", "en", "--source", "sample", "--tokenizer", "gpt2"]
        subprocess.run([sys.executable, "-m", "wikigpt", *prepare], cwd=place, check=True, capture_output=True)
        batches = TrainingBatches(DataFolder(Path(place, "dataset/en")), context, windows, 0)
        for backend, dtype in (("kernels", "bfloat16"), ("plain", "bfloat16"), ("plain", "float32")):
            torch.manual_seed(0)
            step = ours(SHAPES[model], backend, dtype, rate=3e-4)
            losses = [step(batch.inputs_BT, batch.targets_BT) for batch in (batches[n] for n in range(steps))]
            print(f"{model} {backend} {dtype}: {sum(losses[-8:]) / 8:.4f} (the first {losses[0]:.4f})", flush=True)


def compare(model: str, asked: argparse.Namespace) -> None:
    """All rows, in turns, and the table."""
    there = {"nanoGPT": asked.nanogpt, "HF float32": True, "HF bfloat16": True, "litgpt": asked.litgpt}
    rows = [("ours", True), ("ours, plain", True)]
    rows += [(name, kept) for name, found in there.items() if found for kept in (False, True)]
    if asked.rows:
        rows = [row for row in rows if row[0] in ["ours", *asked.rows.split(",")]]
    found: dict[tuple[str, bool], list[dict[str, float]]] = {row: [] for row in rows}
    rates = []
    for _ in range(asked.rounds):
        rates.append(gemm())
        for row, kept in rows:
            python = asked.litgpt_python if row == "litgpt" else sys.executable
            command = [python, __file__, "--one", row, "--model", model]
            for name in ("nanogpt", "litgpt"):
                if path := getattr(asked, name):
                    command += [f"--{name}", str(path.resolve())]
            environment = os.environ | (FREED_MEMORY_KEPT if kept and not row.startswith("ours") else {})
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            found[row, kept].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{model} {row} {'kept' if kept else ''}: {found[row, kept][-1]}", file=sys.stderr, flush=True)
    print(f"\n{model}, bfloat16 products of 2,048: {median(rates):,.0f} GFLOP/s\n")
    print("| | tokens/s | kept | ours is faster by | kept | GiB at the most, kept | s to the first step, kept |")
    print("|---" * 7 + "|")
    for name in dict.fromkeys(row for row, _ in rows):
        speeds, ratios = [], []
        for kept in (False, True):
            pairs = list(zip(found["ours", True], found.get((name, kept), []), strict=False))
            speeds.append(f"{median(b['tokens_per_second'] for _, b in pairs):,.0f}" if pairs else "")
            ratio = median(a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs) if pairs else 0
            ratios.append(f"{ratio:.2f}" if pairs else "")
        last = [f"{median(one['memory'] for one in found[name, True]):.2f}"]
        last.append(f"{median(one['first'] for one in found[name, True]):.1f}")
        print("| " + " | ".join([name, *speeds, *ratios, *last]) + " |", flush=True)


if __name__ == "__main__":
    main()
