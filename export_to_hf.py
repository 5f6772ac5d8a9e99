"""A model for Hugging Face: `python export_to_hf.py` is `wikigpt export` with the presets and folders of config.py."""

import sys

import config
from wikigpt.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]], settings=config, program="export_to_hf.py"))
