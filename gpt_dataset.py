"""Wikipedia to tokens: `python gpt_dataset.py` is `wikigpt prepare` with the presets and folders of config.py."""

import sys

import config
from wikigpt.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]], settings=config, program="gpt_dataset.py"))
