"""A real browser and a real JavaScript engine: Chromium as it is installed, and the Node.js that playwright brings."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import playwright

NODE = Path(playwright.__file__).parent / "driver" / "node"
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()


@contextmanager
def page(width: int = 1000, height: int = 900, dark: bool = False, offline: bool = True) -> Iterator[Any]:
    """A page of Chromium: playwright's own where `playwright install chromium` brought it, else the system's. Without one
    the test fails, and says how to get it."""
    from playwright.sync_api import sync_playwright

    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    with sync_playwright() as play:
        own = Path(play.chromium.executable_path)
        assert own.exists() or found, "no Chromium here: run `playwright install chromium` or `apt install chromium`"
        browser = play.chromium.launch(executable_path=own if own.exists() else found[0], args=QUIET)
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", offline=offline
        )
        yield context.new_page()
        browser.close()
