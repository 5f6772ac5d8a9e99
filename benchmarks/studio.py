"""How quick the studio is: a run of many steps drawn in a browser, scrolling, the first page, and what streaming costs.

    python benchmarks/studio.py --run models/en-demo --steps 100000 --times 5

Takes a finished run, gives a copy of it `--steps` made-up rows, and opens it in headless Chromium. A time begins when the
address is opened and ends when there is colour in the first plot of a screenshot. "Cold": a server that has just started
and has read nothing yet; so has the browser.
"""

import argparse
import io
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import QUIET, chromium

OURS = "document.querySelector('.plot')?.getAttribute('aria-label')?.includes('smoothed ')"
SCROLL = """new Promise((done) => {
  const gaps = [];
  let last = performance.now(), n = 0;
  const step = (now) => {
    gaps.push(now - last);
    last = now;
    scrollBy(0, n < 90 ? 20 : -20);
    ++n < 180 ? requestAnimationFrame(step) : done(gaps.slice(5));
  };
  requestAnimationFrame(step);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(asked.run, folder / "models" / "long", ignore=shutil.ignore_patterns("tensorboard"))
        fill(folder, asked.steps)
        times = []
        for _ in range(asked.times):
            with serving(folder) as address:
                times.append(opened(address))
        cold, warm = (statistics.median(one[n] for one in times) for n in (0, 1))
        print(f"{asked.steps:,} steps drawn in {cold:.2f} s cold, {warm:.2f} s warm (medians of {len(times)})")
        with serving(folder) as address:
            print(scrolling(address))
            print(loading(address))
            for line in streaming(address):
                print(line)


def fill(folder: Path, steps: int) -> None:
    """Rows as a run writes them."""
    with open(folder / "models/long/metrics.jsonl", "w") as file:
        for step in range(1, steps + 1):
            row = {
                "tokens": 4096 * step,
                "flops": 1.03e11 * step,
                "seconds": 0.288 * step,
                "data_seconds": 9.06e-4,
                "data_share": 3.1e-3,
            }
            row |= {
                "loss": 3 + 4 / (1 + step / 3000) + 0.1 * math.sin(7.3 * step),
                "learning_rate": 3.2e-4,
                "grad_norm": 1 + 0.3 * math.sin(step),
            }
            row |= {"tokens_per_second": 14214.6 + step % 97, "mfu": 0.361 + 1e-4 * (step % 97), "memory": 850571264}
            file.write(json.dumps({"kind": "train", "step": step} | row) + "\n")
            if step % 1000 == 0:
                score = {"tokens": 4096 * step, "loss": row["loss"], "bits_per_byte": 1.7, "bigram_bits_per_byte": 2.15}
                file.write(json.dumps({"kind": "validation", "step": step} | score) + "\n")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server, once it has said where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wikigpt", "studio", "--port", "0"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:  # type: ignore[union-attr]
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        time.sleep(1)
        yield found[0]  # type: ignore[index]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def tab(address: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(play), args=QUIET)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        yield page
        browser.close()


def opened(address: str) -> tuple[float, float]:
    """Seconds until a curve can be seen, the first time and again."""
    seconds = []
    with tab(address) as page:
        for _ in range(2):
            page.goto("about:blank")
            began = time.perf_counter()
            page.goto(address)
            while not curve_in_sight(page):
                assert time.perf_counter() - began < 20, f"{address} was never drawn"
            seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def curve_in_sight(page: Any) -> bool:
    """Whether there is colour in the first plot: axes and grids are grey."""
    boxes = [box for canvas in page.locator("canvas").all() if (box := canvas.bounding_box()) and box["width"] > 200]
    if not boxes:
        return False
    pixels = Image.open(io.BytesIO(page.screenshot(clip=boxes[0]))).convert("HSV").getchannel("S").tobytes()
    return sum(saturation > 60 for saturation in pixels) > 100


def scrolling(address: str) -> str:
    """How long frames take while all of the page passes by."""
    with tab(address) as page:
        page.goto(address)
        while not page.evaluate(OURS):
            page.wait_for_timeout(20)
        page.wait_for_timeout(500)
        gaps = sorted(page.evaluate(SCROLL))
    usual, most = statistics.median(gaps), gaps[int(0.95 * len(gaps))]
    return f"scrolling: frames of {usual:.1f} ms (median), {most:.1f} ms (95%), the longest {gaps[-1]:.1f} ms"


def loading(address: str) -> str:
    """Bytes of the first page."""
    with tab(address) as page:
        sizes = []
        page.on(
            "response",
            lambda response: (
                sizes.append(len(response.body())) if "/web/" in response.url or response.url == f"{address}/" else None
            ),
        )
        page.goto(address)
        page.wait_for_timeout(1500)
    return f"first page: {sum(sizes) / 1e3:.0f} kB in {len(sizes)} files"


def streaming(address: str) -> Iterator[str]:
    """Tokens per second through the studio, and of the same model without it."""
    import httpx2
    import torch

    from wikigpt.generate import Sampling, generate_ids, load_model
    from wikigpt.runs import read_run

    asked = argparse.ArgumentParser()
    asked.add_argument("--run", type=Path)
    run = read_run(asked.parse_known_args()[0].run)
    model, tokenizer = load_model(run, "cpu")
    torch.set_num_threads(1)
    plain, studio = [], []
    for seed in range(5):
        began = time.perf_counter()
        made = len(list(generate_ids(model, [tokenizer.end_of_text], -1, Sampling(200, seed=seed))))
        plain.append(made / (time.perf_counter() - began))
        body = {"run": "long", "prompt": "", "max_gen": 200, "temperature": 3.0, "seed": seed}
        with httpx2.stream("POST", f"{address}/api/generate", json=body, timeout=60) as answer:
            end = json.loads([line for line in answer.iter_lines() if line][-1][6:])["end"]
        studio.append(end["tokens"] / end["seconds"])
        first = end["first"]
    alone, through = statistics.median(plain), statistics.median(studio)
    yield f"tokens a second: {alone:.0f} without the studio, {through:.0f} through it; the first after {1e3 * first:.0f} ms"


if __name__ == "__main__":
    main()
