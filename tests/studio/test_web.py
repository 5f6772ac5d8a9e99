"""The pages as files: small, whole, from here alone, and text never becomes HTML in them."""

import hashlib
import re

import pytest

from wikigpt.studio.app import WEB
from wikigpt.studio.schema import page

OURS = sorted([*WEB.glob("*.js"), *WEB.glob("*.html"), *WEB.glob("*.css"), *WEB.glob("*.svg")])
UPLOT = {  # as npm has them in uplot 1.6.32
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def test_uplot_is_what_its_makers_published():
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (WEB / "uplot").iterdir()} == UPLOT
    assert "MIT" in (WEB / "uplot/LICENSE").read_text()


def test_everything_together_is_small():
    assert sum(path.stat().st_size for path in WEB.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s\"'`]*", re.sub(r"(?m)//\s.*$", "", text)))
    assert addresses <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("path", [path for path in OURS if path.suffix == ".js"], ids=lambda path: path.name)
def test_text_never_becomes_html(path):
    text = path.read_text(encoding="utf-8")
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "DOMParser",
        "srcdoc",
    ):
        assert way not in text
    assert not re.search(r"\.setAttribute\(\s*[\"']on|javascript:", text)


def test_every_module_that_is_imported_is_there():
    for path in WEB.glob("*.js"):
        for name in re.findall(r"(?:from|import\(?)\s*\"\./([\w.]+)\"", path.read_text(encoding="utf-8")):
            assert (WEB / name).is_file(), f"{path.name} imports {name}"
    index = (WEB / "index.html").read_text(encoding="utf-8")
    for name in re.findall(r"/web/([\w./]+)", index):
        assert (WEB / name).is_file()
    assert "<style" not in index and not re.search(r"<script(?![^>]*src=)", index) and " style=" not in index


def test_the_pages_are_served_as_what_they_are(client):
    assert "text/html" in client.get("/").headers["content-type"]
    kinds = {
        "main.js": "javascript",
        "studio.css": "text/css",
        "icon.svg": "image/svg+xml",
        "uplot/uPlot.iife.min.js": "javascript",
    }
    for name, kind in kinds.items():
        assert kind in client.get(f"/web/{name}").headers["content-type"]


def test_the_schema_is_a_page_too(client):
    text = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in text
    for word in ("/v1/completions", "max_tokens", "logprobs", "temperature", "/healthz"):
        assert word in text
    assert "<script" not in text


def test_the_schema_s_words_never_become_html():
    schema = {
        "paths": {
            "/<b>": {"get": {"description": "<script>", "parameters": [{"name": "<i>", "schema": {"type": "<u>"}}]}}
        }
    }
    text = page(schema)
    assert "<script>" not in text and "<b>" not in text and "<i>" not in text and "<u>" not in text
