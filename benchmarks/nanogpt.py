"""nanoGPT's own train.py on our data, scored as our runs are: the peer of `recipe.py` and `speedrun.py`.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/nanogpt.py --nanogpt nanoGPT --data dataset/en --layers 2 --width 128 --lr 2e-3 --batch 8

It is run as it is, on a CPU in float32 without torch.compile (which its README recommends there), a cosine to a tenth of
the rate at its end, no biases, dropout 0. Only the flags that it has itself are given. Prints one JSON object: bits per
byte on the whole validation split, in windows that do not overlap, as `wikigpt train` has it at its end.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FREED_MEMORY_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}  # docs/adr/0008


def run(
    nanogpt: Path, data: Path, layers: int, width: int, context: int, batch: int, lr: float, iterations: int, seed: int,
    warmup: int, as_shipped: bool = False, threads: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Trains once in a process of its own; returns its figures. Its seed is fixed in train.py (1337): another one is put
    there in a copy."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("train.py", "model.py", "configurator.py"):
            text = (nanogpt / name).read_text()
            (folder / name).write_text(text.replace("manual_seed(1337", f"manual_seed({1337 + seed}"))
        _write_data(data, folder / "data" / "wiki")
        flags = {
            "dataset": "wiki", "device": "cpu", "compile": False, "dtype": "float32", "out_dir": "out",
            "eval_interval": iterations, "eval_iters": 1, "log_interval": 100, "gradient_accumulation_steps": 1,
            "batch_size": batch, "block_size": context, "n_layer": layers, "n_head": max(2, width // 64), "n_embd": width,
            "learning_rate": lr, "min_lr": lr / 10, "max_iters": iterations, "lr_decay_iters": iterations,
            "warmup_iters": warmup, "weight_decay": 0.1,
        }  # fmt: skip
        environment = os.environ | ({} if as_shipped else FREED_MEMORY_KEPT)
        if threads:
            environment |= {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "train.py", *(f"--{name}={value}" for name, value in flags.items())]
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, **score(folder, data)}


def _write_data(data: Path, folder: Path) -> None:
    """Our shards one behind the other are nanoGPT's train.bin and val.bin."""
    folder.mkdir(parents=True)
    for split, name in (("train", "train.bin"), ("validation", "val.bin")):
        parts = sorted(data.glob(f"{split}_*.bin"))
        (folder / name).write_bytes(b"".join(part.read_bytes() for part in parts))
    import pickle

    vocab_size = json.loads((data / "manifest.json").read_text())["tokenizer"]["vocab_size"]
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))


def score(folder: Path, data: Path) -> dict[str, float]:
    """Bits per byte of nanoGPT's checkpoint on all of our validation split."""
    import torch

    from wikigpt import tokenizer
    from wikigpt.data.loader import evaluation_batches
    from wikigpt.data.shards import DataFolder

    sys.path.insert(0, str(folder))
    sys.modules.pop("model", None)
    import model as theirs  # nanoGPT's model.py

    sys.path.pop(0)
    saved = torch.load(folder / "out" / "ckpt.pt", weights_only=False)  # its own pickle, written a moment ago
    gpt = theirs.GPT(theirs.GPTConfig(**saved["model_args"]))
    gpt.load_state_dict(saved["model"])
    gpt.eval()
    token_bytes = tokenizer.load(data / "tokenizer").token_bytes
    nats, size = 0.0, 0
    with torch.inference_mode():
        for batch in evaluation_batches(DataFolder(data), "validation", saved["model_args"]["block_size"], 16):
            nats += gpt(batch.inputs_BT, batch.targets_BT)[1].item() * batch.targets_BT.numel()
            size += int(token_bytes[batch.targets_BT.numpy()].sum())
    return {"bits_per_byte": nats / math.log(2) / size, "parameters": sum(p.numel() for p in gpt.parameters())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--tokens", type=float, default=2.5e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--as_shipped", action="store_true", help="without the C library's memory kept")
    asked = parser.parse_args()
    iterations = round(asked.tokens / asked.batch / asked.context)
    figures = run(
        asked.nanogpt, asked.data, asked.layers, asked.width, asked.context, asked.batch, asked.lr, iterations, asked.seed,
        asked.warmup, asked.as_shipped, asked.threads,
    )  # fmt: skip
    print(json.dumps(vars(asked) | figures, default=str))


if __name__ == "__main__":
    main()
