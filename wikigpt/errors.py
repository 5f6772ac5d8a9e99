"""Everything that a user can do wrong, as one small tree. `wikigpt.cli` prints such an error as one line and exits 2.

WikiGPTError          what is wrong, and what to do about it
├── ConfigError       a setting: unknown name, impossible value, two settings that contradict each other
├── DataError         a data folder, its shards or its tokenizer: missing, damaged, empty, of another kind
├── RunError          a run or a checkpoint: missing, unfinished, damaged, made with other settings
└── HubError          the Hugging Face hub: out of reach, or it says no
"""

import re


class WikiGPTError(Exception):
    """`problem` says what is wrong; `fix` says what to do, as a sentence or a command to copy."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem} {fix}")
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.problem, self.fix)  # it travels between processes


class ConfigError(WikiGPTError):
    """A setting is unknown, impossible, or contradicts another one."""


class DataError(WikiGPTError):
    """A data folder, a shard or a tokenizer is missing, damaged, empty or of another kind."""


class RunError(WikiGPTError):
    """A run or a checkpoint is missing, unfinished, damaged or made with other settings."""


class HubError(WikiGPTError):
    """The Hugging Face hub is out of reach or says no."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch's says that memory has run out: each of its allocators has words of its own."""
    said = re.search(
        r"(out of|not enough|can.t allocate|cannot allocate) memory|ALLOC_FAILED", str(error), re.IGNORECASE
    )
    return type(error).__name__ == "OutOfMemoryError" or said is not None
