"""Draws infer.gif: a real command on a real terminal, slowed down. From this folder's parent, after `make demo`:

.venv/bin/python assets/record.py
"""

import os
import pty
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

COMMAND = (
    'python infer.py --run en-demo --title "Moon cheese" --temperature 0.6 --top_k 30 --seed 27 --max_gen 90 --stream'
)
COLUMNS, ROWS, SIZE = 92, 10, 15
FRAME, SLOWER = 0.08, 15  # seconds that a frame is shown; a tiny model writes faster than one can read


def record(command: str) -> list[tuple[float, str]]:
    """What a command prints on a terminal, and when, in seconds from its first character on."""
    master, slave = pty.openpty()
    words = [sys.executable, *command.replace('"Moon cheese"', "Moon_cheese").split()[1:]]
    words = [word.replace("Moon_cheese", "Moon cheese") for word in words]
    process = subprocess.Popen(words, stdout=slave, stderr=subprocess.DEVNULL)
    os.close(slave)
    seen: list[tuple[float, str]] = []
    begin = 0.0
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the terminal closed
            break
        begin = begin or time.perf_counter()
        seen.append((time.perf_counter() - begin, part.decode("utf-8", "replace").replace("\r", "")))
    process.wait()
    return seen


def draw(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """A terminal with the last lines of a text."""
    width, height = round(font.getlength("m") * COLUMNS) + 30, ROWS * (SIZE + 5) + 30
    image = Image.new("RGB", (width, height), "#1b1f27")
    lines = [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, COLUMNS) or [""]]
    for row, line in enumerate(lines[-ROWS:]):
        colour = "#8fd18a" if line.startswith("$") else "#e6e6e6"
        ImageDraw.Draw(image).text((15, 15 + row * (SIZE + 5)), line, font=font, fill=colour)
    return image


def main() -> None:
    """Records, draws a frame for each moment, and writes the file."""
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf", SIZE)
    seen = record(COMMAND)
    head = "$ " + "\n  ".join(textwrap.wrap(COMMAND, COLUMNS - 2)) + "\n\n"
    frames, moment = [draw(head, font)] * 8, 0.0
    while moment < seen[-1][0]:
        moment += FRAME / SLOWER
        frames.append(draw(head + "".join(part for when, part in seen if when <= moment), font))
    frames += [frames[-1]] * 40
    small = [frame.quantize(16) for frame in frames]
    path = Path(__file__).with_name("infer.gif")
    small[0].save(path, save_all=True, append_images=small[1:], duration=round(FRAME * 1000), loop=0, optimize=True)
    print(f"{path}: {len(frames)} frames, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
