"""The studio as a person uses it, in headless Chromium: against a run that trains meanwhile, by mouse and by keyboard alone,
by day and by night, on a phone. Pictures of all of it are in tests/screenshots/."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import QUIET, SCREENSHOTS, chromium
from helpers import training_command

from wikigpt.config import write_text

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@contextmanager
def studio(folder: Path, datafolder: Path) -> Iterator[str]:
    """The command itself, in a folder; its address."""
    settings = folder / "settings.py"
    settings.write_text(f"DATAFOLDER = {str(datafolder)!r}\n")
    command = [sys.executable, "-m", "wikigpt", "studio", "--port", "0", "--config", "settings.py"]
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            yield re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        finally:
            process.terminate()


@contextmanager
def browsing(
    address: str, width: int = 1300, height: int = 950, dark: bool = False, mobile: bool = False
) -> Iterator[Any]:
    """A tab. What the console says and which addresses are asked is kept; neither may hold anything foreign at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(play), args=QUIET)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=mobile,
            is_mobile=mobile,
            accept_downloads=True,
            permissions=["clipboard-read", "clipboard-write"],
        )
        tab = context.new_page()
        said, asked = [], []
        tab.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        context.on("request", lambda request: asked.append(request.url))
        tab.set_default_timeout(15_000)
        tab.said = said
        yield tab
        browser.close()
        assert not said, said
        assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked), asked


def shot(tab: Any, name: str) -> None:
    """Kept to be looked at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / f"studio-{name}.png", full_page=True)


def until(tab: Any, what: str, seconds: float = 30.0) -> None:
    """Waits until an expression is true there. (Playwright's own way evaluates text there, which the policy forbids.)"""
    end = time.monotonic() + seconds
    while not tab.evaluate(what):
        assert time.monotonic() < end, f"it never came: {what}"
        tab.wait_for_timeout(50)


def write(tab: Any, prompt: str = "# Luna\n\nLa", tokens: int = 30) -> None:
    """Lets it write, and waits until it has."""
    tab.get_by_label("or any beginning").fill(prompt)
    tab.get_by_label("tokens at most").fill(str(tokens))
    tab.get_by_role("button", name="Write", exact=True).click()
    until(tab, "document.querySelector('[role=status].note').textContent.includes('seed')")


def tokens(tab: Any, side: int = 0) -> list[str]:
    """What stands in a text, token by token."""
    return tab.locator(".sides .text").nth(side).locator("span").all_text_contents()


def test_it_opens_and_writes(house, data):
    """The shortest way through: one fast test of what the slow ones do at length."""
    with studio(house, data.path.parent) as address, browsing(address) as tab:
        tab.goto(address)
        tab.wait_for_selector(".u-over")
        tab.get_by_role("link", name="Playground").click()
        tab.get_by_label("temperature").fill("5")  # so that it hardly ends at once
        write(tab, tokens=12)
        assert "".join(tokens(tab)).startswith("# Luna\n\nLa") and len(tokens(tab)) > 6


@pytest.fixture(scope="module")
def lively(data, tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """A folder and the studio in it. It begins without any run."""
    folder = tmp_path_factory.mktemp("lively")
    shutil.copytree(data.path, folder / "data" / "es")
    with studio(folder, folder / "data") as address:
        yield folder, address


@contextmanager
def training(folder: Path, name: str, steps: int = 2500, flags: str = "") -> Iterator[subprocess.Popen]:
    """A real run, that trains meanwhile."""
    length = f"--batch_size 8 --max_steps {steps} --warmup_steps 20 --eval_every 100 --save_every 200 --eval_tokens 500"
    command = (
        f"{training_command('', length)} {flags} --run {name} --config settings.py --threads 1 --learning_rate 1e-2"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "wikigpt", *command.split()], cwd=folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_watching_a_run_train(lively):
    folder, address = lively
    with browsing(address) as tab:
        tab.goto(address)
        tab.wait_for_selector("text=No runs yet")
        assert "wikigpt demo" in tab.inner_text("main")
        shot(tab, "1-no-runs")
        tab.goto(f"{address}/#/playground")
        tab.wait_for_selector("text=Nobody to talk to yet")
        tab.goto(address)
        with training(folder, "live"):
            # It appears by itself, and its curves grow.
            tab.wait_for_selector("li[data-run=live] .badge.training", timeout=60_000)
            step = "Number(document.querySelector('li[data-run=live] progress').value)"
            until(tab, f"{step} > 20")
            newest = "document.querySelector('.plot[role=img]').getAttribute('aria-label')"
            until(tab, f"/each step [0-9]/.test({newest})")
            first, drawn = tab.evaluate(newest), tab.evaluate("document.querySelector('.plot canvas').toDataURL()")
            before = tab.evaluate(step)
            until(tab, f"{step} > {before} + 50")
            until(tab, f"{newest} !== {json.dumps(first)}")
            assert tab.evaluate("document.querySelector('.plot canvas').toDataURL()") != drawn
            assert re.search(r"tokens/s, .* left", tab.inner_text("li[data-run=live] .what"))
            tab.wait_for_selector(".samples .card", timeout=60_000)
            shot(tab, "2-training")
            # One talks to it while it trains.
            until(tab, "fetch('/v1/models').then((r) => r.json()).then((m) => m.data.length > 0)")
            tab.get_by_role("link", name="Playground").click()
            tab.get_by_label("temperature").fill("1")
            write(tab, tokens=20)
            assert len(tokens(tab)) > 8
            shot(tab, "3-talking-while-it-trains")
        tab.get_by_role("link", name="Runs").click()
        tab.wait_for_selector("li[data-run=live] .badge.stopped, li[data-run=live] .badge.finished")


@pytest.fixture(scope="module")
def two(lively) -> tuple[Path, str]:
    """Two finished runs that differ, long enough to have something to show, with samples that would be dangerous as HTML."""
    folder, address = lively
    modern = "--arch qwen3 --qkv_bias False --n_heads 4 --n_kv_heads 2 --head_dim 16 --n_layers 2 --drop_rate 0"
    for name, flags in (("old", "--n_layers 2"), ("new", modern)):
        with training(folder, name, 300, flags) as process:
            assert process.wait(120) == 0
    samples = folder / "models/new/samples.md"
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    write_text(samples, samples.read_text() + f"\n## Step 301\n\n**{bad}**\n\n> {bad}\n")
    return folder, address


@pytest.mark.slow
def test_comparing_runs_and_drawing_them_in_any_way(two, tmp_path):
    _, address = two
    with browsing(address) as tab:
        tab.goto(address)
        for name in ("old", "new"):
            tab.get_by_label(f"Show {name}").check()
        tab.wait_for_selector("text=In what they differ")
        assert "arch" in tab.inner_text("main")
        until(tab, "document.querySelector('.plot').getAttribute('aria-label').includes('old: ')")
        labels = "document.querySelector('.plot').getAttribute('aria-label')"
        for along in ("tokens", "flops", "seconds"):
            tab.get_by_label("along").select_option(along)
            until(
                tab,
                f"{labels}.includes('against {'FLOPs' if along == 'flops' else 'time' if along == 'seconds' else along}')",
            )
        tab.get_by_label("log scale").check()
        tab.get_by_label("smoothing").fill("0.5")
        shot(tab, "4-two-runs")
        # Zoom by mouse and by button; every chart follows.
        extent = "[...document.querySelectorAll('.plot')].map((p) => p.querySelector('.u-legend') && 1).length"
        assert tab.evaluate(extent) == 7
        over = tab.locator(".u-over").first
        box = over.bounding_box()
        before = tab.evaluate("document.querySelector('.plot canvas').toDataURL()")
        tab.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 50)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=5)
        tab.mouse.up()
        tab.wait_for_timeout(300)
        zoomed = tab.evaluate("document.querySelector('.plot canvas').toDataURL()")
        assert zoomed != before
        tab.get_by_role("button", name="Show all").click()
        tab.wait_for_timeout(300)
        assert tab.evaluate("document.querySelector('.plot canvas').toDataURL()") == before
        # Everything can be taken away as a file.
        for kind, start in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"line,seconds")):
            with tab.expect_download() as coming:
                tab.get_by_role("button", name=f"Save Loss as {kind}").click()
            path = tmp_path / coming.value.suggested_filename
            coming.value.save_as(path)
            assert path.read_bytes().startswith(start) and path.stat().st_size > 1000
            SCREENSHOTS.mkdir(exist_ok=True)
            shutil.copy(path, SCREENSHOTS / f"studio-saved-{path.name}")
        # What would be dangerous as HTML is text.
        assert "<img src=x onerror=alert(1)>" in tab.inner_text("main")
        # Samples of an earlier step.
        tab.get_by_label("Step of old's samples").fill("0")
        tab.wait_for_selector("output:has-text('Step 0')")


@pytest.mark.slow
def test_talking_by_mouse(two):
    _, address = two
    with browsing(address) as tab:
        tab.goto(f"{address}/#/playground")
        tab.get_by_label("run", exact=True).select_option("new")
        tab.get_by_label("temperature").fill("1")
        # Text streams, and stop stops.
        tab.get_by_label("or any beginning").fill("# Luna\n\n")
        tab.get_by_label("tokens at most").fill("4096")
        tab.get_by_label("temperature").fill("5")  # so that it hardly ever comes to an end by itself
        tab.get_by_role("button", name="Write", exact=True).click()
        count = "document.querySelectorAll('.sides .text')[0].children.length"
        until(tab, f"{count} > 20")
        first = tab.evaluate(count)
        until(tab, f"{count} > {first} + 20")
        tab.get_by_role("button", name="Stop").click()
        tab.wait_for_selector("text=stopped after")
        stopped = tab.evaluate(count)
        tab.wait_for_timeout(500)
        assert tab.evaluate(count) == stopped < 4000
        # Two side by side on one prompt.
        tab.get_by_label("temperature").fill("0.8")
        tab.get_by_label("compare with", exact=True).select_option("old")
        tab.get_by_label("seed").fill("7")
        write(tab, tokens=60)
        assert [tab.locator(".sides h2").nth(n).inner_text() for n in (0, 1)] == ["new@300", "old@300"]
        left, right = tokens(tab, 0), tokens(tab, 1)
        assert left != right and left[:3] == right[:3]
        shot(tab, "5-side-by-side")
        # A token's alternatives, by pointing; one of them taken.
        tab.locator(".sides .text").first.locator("span").nth(8).hover()
        tab.wait_for_selector(".pop:not([hidden]) ol button")
        assert "%" in tab.inner_text(".pop:not([hidden])")
        shot(tab, "6-alternatives")
        choice = tab.locator(".pop:not([hidden]) ol button").nth(4)
        word = choice.locator("code").inner_text()
        choice.click()
        until(tab, "document.querySelector('[role=status].note').textContent.includes('seed')")
        now = tokens(tab, 0)
        assert now[:8] == left[:8] and now[8].replace(" ", "␣", 1).strip("\n") in (word, now[8]) and now[8] != left[8]
        assert tokens(tab, 1) == right  # the other side stays
        # Where it has read that.
        tab.get_by_role("button", name="Where has it read that?").first.click()
        tab.wait_for_selector("text=Where it has read that")
        # An article that does not exist.
        tab.get_by_role("button", name="Invent one").click()
        until(tab, "document.querySelector('input[type=text]').value.length > 0")
        assert "No article" in tab.inner_text("[role=status].note")
        tab.get_by_role("button", name="Write the article").click()
        until(tab, "document.querySelector('[role=status].note').textContent.includes('seed')")
        title = tab.locator("input[type=text]").input_value()
        assert "".join(tokens(tab)).startswith(f"# {title}\n\n")
        shot(tab, "7-an-article-that-does-not-exist")
        # Surprise can be turned off.
        tab.get_by_label("colour by surprise").uncheck()
        colours = "[...document.querySelectorAll('.sides .text span')].filter((s) => s.style.backgroundColor).length"
        assert tab.evaluate(colours) == 0
        tab.get_by_label("colour by surprise").check()
        assert tab.evaluate(colours) > 5
        # The text comes along to the page Inside and back.
        tab.get_by_role("button", name="Look inside").first.click()
        tab.wait_for_selector(".lens")
        assert title in tab.locator("textarea").input_value()
        tab.go_back()
        tab.wait_for_selector(".sides .text span")
        assert "".join(tokens(tab)).startswith(f"# {title}\n\n")


SLOWER = """(path) => { const real = window.fetch; window.asked = 0;
  window.fetch = (...given) => { if (!String(given[0]).includes(path)) return real(...given);
    window.asked++; return new Promise((done) => setTimeout(done, 700)).then(() => real(...given)); }; }"""


@pytest.mark.slow
def test_clicks_that_come_quickly_or_at_a_bad_moment(two):
    folder, address = two
    with browsing(address) as tab:
        tab.goto(f"{address}/#/playground")
        tab.get_by_label("run", exact=True).select_option("new")
        tab.get_by_label("temperature").fill("5")
        write(tab, tokens=40)
        # Two tokens are chosen while the search is under way: it is asked once, and the page goes on.
        tab.evaluate(SLOWER, "/api/passages")
        for n in (9, 10, 11):
            tab.locator(".sides .text span").nth(n).click()
        until(tab, "document.querySelector('.sides section').textContent.includes('Where it has read that')")
        assert tab.evaluate("window.asked") == 1
        # Going on means the run that wrote it, whatever is chosen above.
        before = tokens(tab)
        tab.get_by_label("run", exact=True).select_option("old")
        tab.get_by_label("tokens at most").fill("5")
        tab.get_by_role("button", name="Go on").first.click()
        until(tab, f"document.querySelectorAll('.sides .text span').length > {len(before)}")
        assert tokens(tab)[: len(before)] == before and tab.inner_text(".sides h2") == "new@300"
        # What cannot be asked leaves the text as it is, and is said.
        tab.get_by_label("top-p").fill("7")
        tab.get_by_role("button", name="Write", exact=True).click()
        tab.wait_for_selector("#said:not([hidden])")
        assert "top-p" in tab.inner_text("#said") and tokens(tab)[: len(before)] == before
        tab.get_by_label("top-p").fill("")
        # A run that is chosen while another's checkpoints are on their way has its own.
        tab.evaluate(SLOWER, "/api/runs/live") if (folder / "models/live").exists() else tab.evaluate(
            SLOWER, "/api/runs/old"
        )
        options = "[...document.querySelectorAll('select')[1].options].map((o) => o.value).join()"
        tab.get_by_label("run", exact=True).select_option("new")
        until(tab, f"{options}.includes('300')")
        # Leaving and coming back while curves are on their way doubles no row.
        tab.goto(address)
        tab.wait_for_selector(".u-over")
        tab.evaluate(SLOWER, "/curves")
        for name in ("Data", "Runs", "Data", "Runs"):
            tab.get_by_role("link", name=name, exact=True).click()
            tab.wait_for_timeout(200)
        tab.wait_for_timeout(2500)
        with tab.expect_download() as coming:
            tab.get_by_role("button", name="Save Learning rate as CSV").click()
        steps = [line.split(",")[1] for line in Path(coming.value.path()).read_text().splitlines()[1:]]
        assert len(steps) == len(set(steps)) > 100
        # "Skip to the content" is a place, not a page.
        tab.keyboard.press("Tab")
        tab.evaluate("document.querySelector('.skip').click()")
        assert tab.evaluate("document.activeElement.id") == "main" and "#main" not in tab.url


@pytest.mark.slow
def test_a_page_that_was_opened_too_early_wakes_up_and_is_left_in_order(data, house, tmp_path):
    shutil.copytree(data.path, tmp_path / "data" / "es")
    with studio(tmp_path, tmp_path / "data") as address, browsing(address) as tab:
        tab.goto(f"{address}/#/inside")
        tab.wait_for_selector("text=Nothing to look into yet")
        tab.goto(f"{address}/#/playground")
        tab.wait_for_selector("text=Nobody to talk to yet")
        shutil.copytree(house / "models", tmp_path / "models")
        tab.wait_for_selector("textarea")
        tab.get_by_label("temperature").fill("5")
        tab.get_by_label("tokens at most").fill("4096")
        tab.get_by_role("button", name="Write", exact=True).click()
        until(tab, "document.querySelectorAll('.sides .text span').length > 10")
        tab.get_by_role("link", name="Data").click()
        tab.wait_for_selector(".list button")
        assert tab.locator(".pop").count() == 0  # nothing of the page is left, and its text is not written on
        # A run that cannot be read hinders no other.
        (tmp_path / "models/bad").mkdir()
        (tmp_path / "models/bad/run.json").write_text("{")
        tab.get_by_role("link", name="Runs").click()
        tab.get_by_label("Show bad").check()
        tab.get_by_label("Show g").check()
        until(tab, "document.querySelector('.plot').getAttribute('aria-label').includes('each step')")


@pytest.mark.slow
def test_looking_inside_and_at_the_data(two):
    _, address = two
    with browsing(address) as tab:
        tab.goto(f"{address}/#/inside")
        tab.wait_for_selector(".arch")
        tab.get_by_label("run", exact=True).select_option("new")
        tab.wait_for_selector("text=Shape of Qwen3")
        tab.locator(".arch g", has_text="Attention").click()
        assert "blocks.1.attn.q_norm.weight" in tab.inner_text(".beside")
        tab.get_by_role("button", name="Look", exact=True).click()
        tab.wait_for_selector(".lens")
        assert tab.locator(".heads button").count() == 2 * 4
        word = tab.locator("section .text span").nth(7)
        tab.get_by_role("button", name="block 1, head 2").click()
        tab.wait_for_selector("text=Attention: block 1, head 2")
        word.hover()
        assert "rgba" in tab.locator("section .text span").first.get_attribute("style")
        shot(tab, "8-inside")
        tab.get_by_label("run", exact=True).select_option("old")
        tab.wait_for_selector("text=Shape of GPT-2")
        tab.get_by_role("link", name="Data").click()
        tab.wait_for_selector(".list button")
        tab.get_by_label("search").fill("la")
        until(tab, "document.querySelector('.list').textContent.toLowerCase().includes('la')")
        tab.locator(".list button").first.click()
        tab.wait_for_selector("article")
        tab.get_by_label("show tokens").check()
        assert tab.locator("article .tokens span").count() > 20
        tab.get_by_role("button", name="Clean").click()
        until(tab, "document.querySelector('section pre').textContent.startsWith('Luna is')")
        assert "What was left out" in tab.inner_text("main")
        shot(tab, "9-data")
        tab.get_by_role("link", name="API").click()
        tab.wait_for_selector("text=POST /v1/completions")
        shot(tab, "10-api")


FOCUSED = """(() => {
  const e = document.activeElement;
  const name = [e.getAttribute("aria-label") ?? "", e.labels?.[0]?.textContent ?? "", e.textContent].join("|");
  return [e.getAttribute("role") ?? e.tagName.toLowerCase(), name,
    getComputedStyle(e).outlineStyle !== "none" || e === document.body];
})()"""


@pytest.mark.slow
def test_the_keyboard_alone_suffices(two):
    """Only Tab, Enter, Space, arrows and letters. The focus can always be seen."""
    _, address = two

    def tab_to(tab: Any, role: str, name: str) -> None:
        passed = []
        for _ in range(120):
            tab.keyboard.press("Tab")
            here = tab.evaluate(FOCUSED)
            assert here[2], f"the focus on {here} cannot be seen"
            if here[0] == role and name in here[1]:
                return
            passed.append(here[:2])
        raise AssertionError(f"Tab never came to {role} {name}, but to {passed}")

    with browsing(address) as tab:
        tab.goto(address)
        tab.wait_for_selector(".u-over")
        tab.keyboard.press("Tab")
        assert "Skip" in tab.evaluate("document.activeElement.textContent")
        tab_to(tab, "input", "Show old")
        tab.keyboard.press("Space")
        tab_to(tab, "select", "along")
        tab.keyboard.press("ArrowDown")
        until(tab, "document.querySelector('.plot').getAttribute('aria-label').includes('against tokens')")
        tab_to(tab, "button", "Zoom in")
        tab.keyboard.press("Enter")
        tab.evaluate("document.querySelector('.skip').focus()")
        tab_to(tab, "a", "Playground")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("textarea")
        tab_to(tab, "input", "temperature")
        tab.keyboard.press("Control+A")
        tab.keyboard.type("5")  # so that it hardly ends at once
        tab.evaluate("document.querySelector('.skip').focus()")
        tab_to(tab, "textarea", "or any beginning")
        tab.keyboard.type("La Luna es un")
        tab.keyboard.press("Control+Enter")
        until(tab, "document.querySelector('[role=status].note').textContent.includes('seed')")
        before = tokens(tab)
        there = min(6, len(before) - 1)
        tab_to(tab, "group", "Arrow keys")
        for _ in range(7):
            tab.keyboard.press("ArrowRight")
        tab.keyboard.press("Enter")  # into the pop-up, on the first alternative
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")  # the second
        until(tab, "document.querySelector('[role=status].note').textContent.includes('seed')")
        assert tokens(tab)[:there] == before[:there] and tokens(tab)[there] != before[there]
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("Enter")
        tab.keyboard.press("Escape")
        assert tab.locator(".pop:not([hidden])").count() == 0
        tab.evaluate("document.querySelector('.skip').focus()")
        tab_to(tab, "a", "Inside")
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".lens")
        tab.wait_for_selector(".arch")
        tab_to(tab, "button", "Attention")
        tab.keyboard.press("Enter")
        assert "attn" in tab.inner_text(".beside")
        tab_to(tab, "button", "block 1, head 1")
        tab.keyboard.press("Space")
        tab.wait_for_selector("text=Attention: block 1, head 1")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["day", "night"])
def test_everyone_can_use_it(two, dark):
    """axe-core finds nothing: names, roles, contrast; on every page, in both schemes. And it works on a phone."""
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    _, address = two
    for width, mobile in ((1300, False), (390, True)):
        with browsing(address, width, dark=dark, mobile=mobile) as tab:
            for page in ("runs", "playground", "inside", "data", "docs"):
                tab.goto(f"{address}/docs" if page == "docs" else f"{address}/#/{page}")
                if page == "runs":
                    tab.get_by_label("Show old").check()
                    tab.get_by_label("Show new").check()
                    tab.wait_for_selector("text=In what they differ")
                    tab.locator("details summary").first.click()
                if page == "playground":
                    write(tab, tokens=25)
                    tab.locator(".sides .text span").nth(6).click()
                    tab.wait_for_selector(".pop:not([hidden])")
                if page == "inside":
                    tab.wait_for_selector(".lens")
                if page == "data":
                    tab.locator(".list button").first.click()
                    tab.wait_for_selector("article")
                    tab.wait_for_selector("text=What was left out")
                tab.wait_for_timeout(300)
                shot(tab, f"{'night' if dark else 'day'}-{'phone' if mobile else 'desk'}-{page}")
                tab.evaluate(axe)
                found = tab.evaluate("axe.run()")["violations"]
                said = [
                    (one["id"], [node["html"][:160] + node["failureSummary"][-160:] for node in one["nodes"][:3]])
                    for one in found
                ]
                assert not said, f"{page}: {said}"
                wide = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
                assert wide[0] <= wide[1], f"{page} is wider than the screen: {wide}"


@pytest.mark.slow
def test_a_hundred_thousand_steps_are_drawn(two):
    """That it is quick is measured (benchmarks/studio.py); here that it is whole."""
    folder, address = two
    shutil.copytree(folder / "models/old", folder / "models/long")
    record = {
        "kind": "train",
        "tokens": 1,
        "flops": 1.0,
        "seconds": 1.0,
        "loss": 3.0,
        "learning_rate": 1e-3,
        "grad_norm": 1.0,
    }
    with open(folder / "models/long/metrics.jsonl", "w") as file:
        for step in range(1, 100_001):
            file.write(json.dumps(record | {"step": step, "tokens": 64 * step, "loss": 8 / step**0.1}) + "\n")
    try:
        with browsing(address) as tab:
            tab.goto(address)
            tab.get_by_label("Show long").check()
            for name in tab.locator(".runs li").evaluate_all("rows => rows.map((row) => row.dataset.run)"):
                tab.get_by_label(f"Show {name}", exact=True).set_checked(name == "long")
            until(tab, "document.querySelector('.plot').getAttribute('aria-label').includes('smoothed 2.53')")
            shot(tab, "11-a-hundred-thousand-steps")
    finally:
        shutil.rmtree(folder / "models/long")
