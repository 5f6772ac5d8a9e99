"""Training a GPT: `python gpt_train.py` is `wikigpt train` with the presets and folders of config.py."""

import sys

import config
from wikigpt.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], settings=config, program="gpt_train.py"))
