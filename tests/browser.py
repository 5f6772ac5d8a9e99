"""A real browser and a real JavaScript engine: Chromium as it is installed, and the Node.js that playwright brings."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import playwright
import pytest

NODE = Path(playwright.__file__).parent / "driver" / "node"
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()


SCREENSHOTS = Path(__file__).parent / "screenshots"  # kept to be looked at


def chromium(play: Any) -> Path | str:
    """Where it is: playwright's own where `playwright install chromium` brought it, else the system's. Without one the test
    is skipped, and says how to get it."""
    own = Path(play.chromium.executable_path)
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not own.exists() and not found:
        pytest.skip("NO BROWSER TEST: no Chromium here; run `make .venv/browser` or `apt install chromium`")
    return own if own.exists() else found[0]


@contextmanager
def page(width: int = 1000, height: int = 900, dark: bool = False, offline: bool = True) -> Iterator[Any]:
    """A page of Chromium, without a network unless one is asked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(play), args=QUIET)
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", offline=offline
        )
        yield context.new_page()
        browser.close()
