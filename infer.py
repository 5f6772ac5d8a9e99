"""Text from a trained model: `python infer.py` is `wikigpt generate` with the presets and folders of config.py."""

import sys

import config
from wikigpt.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]], settings=config, program="infer.py"))
