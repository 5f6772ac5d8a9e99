"""Draws studio.png: two pages of the studio as they are, after `make demo`. From this folder's parent:

.venv/bin/python assets/studio.py
"""

import io
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, "tests")
from browser import QUIET, chromium

WIDE, TITLE = 1240, "Moon cheese"


def pictures(address: str) -> list[bytes]:
    """The curves of the demo's run, and an article with a token's alternatives."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(play), args=QUIET)
        page = browser.new_page(viewport={"width": WIDE, "height": 640})
        page.goto(address)
        page.get_by_label("Show en-demo").check()
        page.wait_for_timeout(1500)
        runs = page.screenshot()
        page.goto(f"{address}/#/playground")
        page.get_by_label("run", exact=True).select_option("en-demo")
        page.get_by_label("title of an article").fill(TITLE)
        page.get_by_label("temperature").fill("0.6")
        page.get_by_label("seed").fill("27")
        page.get_by_role("button", name="Write the article").click()
        page.wait_for_selector("text=a second")
        page.locator(".sides .text span").nth(30).hover()
        page.wait_for_timeout(300)
        page.evaluate("scrollTo(0, 440)")
        talk = page.screenshot(clip={"x": 0, "y": 0, "width": WIDE, "height": 640})
        browser.close()
    return [runs, talk]


def main() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "wikigpt", "studio", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())[0]
        shots = [Image.open(io.BytesIO(shot)) for shot in pictures(address)]
    finally:
        process.terminate()
    whole = Image.new("RGB", (WIDE, sum(shot.height for shot in shots) + 12), "#808080")
    top = 0
    for shot in shots:
        whole.paste(shot, (0, top))
        top += shot.height + 12
    whole.quantize(128).save(Path(__file__).with_name("studio.png"), optimize=True)


if __name__ == "__main__":
    main()
