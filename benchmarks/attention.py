"""Causal attention on a CPU, forward and backward: PyTorch's fused kernel beside the plain formula of transformer.py.

    python benchmarks/attention.py

bfloat16, 2,048 positions in all; interleaved, median of 30, in milliseconds.
"""

import statistics
import time

import torch
import torch.nn.functional as F

from wikigpt import hardware
from wikigpt.transformer import plain_attention


def milliseconds(attend, q, k, v) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    y = attend(q, k, v)
    y.backward(y.detach())
    return (time.perf_counter() - start) * 1e3


def fused(q, k, v):  # type: ignore[no-untyped-def]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def plain(q, k, v):  # type: ignore[no-untyped-def]
    return plain_attention(q, k, v, 0.0)


def main() -> None:
    hardware.keep_freed_memory()
    torch.set_num_threads(hardware.physical_cores())
    print("| heads x size | positions | fused | plain | ratio |\n|---|---|---|---|---|")
    for heads, size, positions in ((2, 64, 128), (4, 32, 128), (4, 64, 256), (12, 64, 512), (12, 64, 1024)):
        shape = (2048 // positions, heads, positions, size)
        q, k, v = (torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
        times = [(milliseconds(fused, q, k, v), milliseconds(plain, q, k, v)) for _ in range(30)]
        one, other = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        print(f"| {heads} x {size} | {positions} | {one:.1f} | {other:.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
