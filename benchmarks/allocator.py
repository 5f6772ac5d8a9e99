"""What keeping freed memory (docs/adr/0008) is worth: tokens/s of training steps with and without it.

    python benchmarks/allocator.py

Each figure is the median of a process of its own, since the setting cannot be undone; the two are interleaved.
"""

import statistics
import subprocess
import sys

STEPS = """
import sys, time, torch
from wikigpt import hardware
from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings
from wikigpt.data.loader import Batch
from wikigpt.optim import make_optimizer, training_step
from wikigpt.parallel import Loss
from wikigpt.transformer import GPTModel

if sys.argv[1] == "keep":
    hardware.keep_freed_memory()
machine = hardware.detect("cpu")
model = GPTModel(ModelConfig(**MODEL_CONFIGS[sys.argv[2]]))
settings = TrainingSettings(**TRAINING_SETTINGS["small_models"])
optimizer, scaler = make_optimizer(model, settings), torch.amp.GradScaler("cpu", enabled=False)
tokens = torch.randint(model.config.vocab_size, (settings.batch_size, model.config.context_length + 1))
times = []
for _ in range(15):
    start = time.perf_counter()
    training_step(Loss(model), optimizer, scaler, Batch(tokens[:, :-1], tokens[:, 1:]), settings, machine)
    times.append(time.perf_counter() - start)
print(settings.batch_size * model.config.context_length / sorted(times)[len(times) // 2])
"""


def tokens_per_second(allocator: str, model: str) -> float:
    done = subprocess.run([sys.executable, "-c", STEPS, allocator, model], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    print("| model | as shipped | freed memory kept | ratio |\n|---|---|---|---|")
    for model in ("tiny", "small"):
        pairs = [(tokens_per_second("plain", model), tokens_per_second("keep", model)) for _ in range(5)]
        plain, kept = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {model} | {plain:,.0f} tokens/s | {kept:,.0f} tokens/s | {ratio:.2f} |")


if __name__ == "__main__":
    main()
