"""WikiGPT: pre-train a GPT from scratch on Wikipedia."""

__version__ = "0.1.0"
