"""The site: `make site` builds build/site/ from the Markdown of this repository, its docstrings, and the chapters with what
they print.

README.md, docs/, benchmarks/records.md ──┐
docstrings, --help ──> docs/reference/  ──┼──> Sphinx ──> build/site/        a link that leads nowhere is an error
lessons/*.py, run ────────────────────────┘
"""

import logging
import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import reference  # noqa: E402

reference.write(DOCS / "reference")

project, author = "WikiGPT", "the WikiGPT team"
copyright = "WikiGPT's authors; the text of Wikipedia is by its contributors, under CC BY-SA 4.0"
extensions = ["myst_nb"]
root_doc = "docs/index"
include_patterns = ["README.md", "docs/**.md", "benchmarks/records.md", "lessons/[0-9]*.py"]
nb_custom_formats = {".py": "reference.chapter"}
# A chapter is run again when its code has changed. `-D nb_execution_mode=off` shows the code alone.
nb_execution_mode = "cache"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "WikiGPT"
html_show_sphinx = False
html_show_sourcelink = False
suppress_warnings = ["myst.header"]  # pages of the reference begin their sections where the code does
nb_execution_cache_path = str(DOCS.parent / "build" / "chapters")
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
logging.getLogger("traitlets").setLevel(logging.WARNING)
