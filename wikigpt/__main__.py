"""`python -m wikigpt` is the same as `wikigpt`."""

from wikigpt.cli import entry

if __name__ == "__main__":
    entry()
