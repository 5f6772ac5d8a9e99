"""Text from a published model, with torch and transformers alone: nothing of WikiGPT is imported.

python hf_infer.py                                                the newest folder in exports/, with its own code
python hf_infer.py --repo_id USER/NAME --input "Once upon a time" from the Hugging Face hub, with transformers' code
python hf_infer.py --repo_id USER/NAME --trust_remote_code --revision COMMIT    with the code that lies there
"""

import argparse
import json
import math
import os
import re
import sys
from pathlib import Path

CUSTOM = "modeling_gpt2_custom.py"
CODE = {
    ("AutoConfig", "configuration_gpt2_custom.GPT2CustomConfig"),
    ("AutoModelForCausalLM", "modeling_gpt2_custom.GPT2CustomLMHeadModel"),
}


def main() -> int:
    """Prints the text. Returns 2 after a mistake, which is told in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--repo_id", help="USER/NAME on the hub, or a folder; the newest in exports/ unless given")
    add("--input", help="text to continue; '# Title' and an empty line ask for an article")
    add("--max_gen", type=int, default=100, help="tokens at the most")
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest token always")
    add("--top_k", type=int, default=50, help="draw from the k likeliest tokens only")
    add("--seed", type=int, help="the same seed gives the same text")
    add("--stream", action="store_true", help="print the text while it is written")
    add("--native", action="store_true", help=f"transformers' own class instead of {CUSTOM}")
    add("--revision", help="branch, tag or commit on the hub; main unless given")
    add("--trust_remote_code", action="store_true", help=f"run {CUSTOM} from the hub; needs a commit as --revision")
    asked = parser.parse_args()
    try:
        if not 0 <= asked.temperature < math.inf or asked.max_gen < 1 or asked.top_k < 1:
            raise ValueError("--temperature must be 0 or more, --max_gen and --top_k 1 or more.")
        if asked.seed is not None and not 0 <= asked.seed < 2**63:
            raise ValueError("--seed must be 0 or more, below 2**63.")
        folder, custom = find(asked)
        return write(asked, folder, custom)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the text went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # whatever the libraries raise for a damaged file or a broken network
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        print(kind + " ".join(str(error).split())[:400], file=sys.stderr)
        return 2


def find(asked: argparse.Namespace) -> tuple[str, bool]:
    """The folder of the model, downloaded where it is not on this machine, and whether its own code runs: that of a folder
    here does; that from the hub only where it was asked for, at a commit that whoever asked can have read."""
    name = newest_export() if asked.repo_id is None else asked.repo_id
    if name and Path(name).is_dir():
        if asked.revision:
            raise ValueError(f"{name} is a folder here: --revision is for the hub.")
        return name, has_code(name) and not asked.native
    folder, commit = download(name, asked.revision)
    if not (Path(folder) / "config.json").exists():
        where = f"revision {asked.revision}" if asked.revision else "main branch"
        raise ValueError(f"The {where} of {name} holds no model. Name another branch or commit with --revision.")
    if asked.native or not has_code(folder):
        return folder, False
    pinned = re.fullmatch("[0-9a-f]{40}", asked.revision or "") is not None
    if not (asked.trust_remote_code and pinned):
        flags = f"--trust_remote_code --revision {commit}"
        print(f"transformers' own GPT-2 runs it; to run {CUSTOM} of {name}, read it and add {flags}", file=sys.stderr)
    return folder, asked.trust_remote_code and pinned


def has_code(folder: str) -> bool:
    """Whether a folder has the code that WikiGPT publishes. config.json could also name code in some other repository, which
    nobody asked for: that never runs."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        named = config.get("auto_map") or {}
    except (OSError, ValueError, AttributeError) as error:
        why = "no config.json" if isinstance(error, OSError) else "its config.json cannot be read"
        raise ValueError(f"{folder} holds no model ({why}). Name an export, such as exports/NAME.") from None
    return named != {} and set(named.items()) <= CODE and (Path(folder) / CUSTOM).exists()


def newest_export() -> str:
    """The folder that `python export_to_hf.py` wrote last."""
    folders = sorted(Path("exports").glob("[!.]*/config.json"), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise ValueError(
            "exports/ has no model yet. Make one with: python export_to_hf.py, or give --repo_id USER/NAME."
        )
    return str(folders[-1].parent)


def download(name: str, revision: str | None) -> tuple[str, str]:
    """A repository of the hub in the cache that Hugging Face's libraries share, and its commit. HF_TOKEN, of the
    environment or of .env, is needed for a private one only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    token = (os.environ.get("HF_TOKEN") or in_dotenv() or "").strip() or None
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("HF_TOKEN is no token: it holds spaces or other signs. Copy it again.")
    try:
        folder = snapshot_download(
            name, revision=revision, token=token, allow_patterns=["*.json", "*.safetensors", "*.py"]
        )
    except HFValidationError:
        raise ValueError(f"{name!r} is neither a folder here nor a name on the hub (USER/NAME).") from None
    except LocalEntryNotFoundError:
        raise ValueError(
            f"{name} is not a folder here, and the hub is out of reach. Check the name and the network."
        ) from None
    except RepositoryNotFoundError:
        why = "or is private: then HF_TOKEN, in .env or the environment, must belong to someone who may read it"
        raise ValueError(f"The hub has no {name} (it does not exist, {why}).") from None
    return folder, Path(folder).name


def in_dotenv() -> str | None:
    """HF_TOKEN of the .env in the working folder, where python-dotenv is installed."""
    try:
        from dotenv import dotenv_values
    except ImportError:
        return None
    return dotenv_values(".env").get("HF_TOKEN")


def write(asked: argparse.Namespace, folder: str, custom: bool) -> int:
    """Loads model and tokenizer from a folder and continues the text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=custom).eval()
    print(f"model: {asked.repo_id or folder} ({type(model).__name__})", file=sys.stderr)
    if asked.seed is not None:
        torch.manual_seed(asked.seed)
    prompt = "# Moon cheese\n\n" if asked.input is None else asked.input
    prompt = prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a character is none
    ids = prompt_ids(tokenizer, prompt)
    length = asked.max_gen
    if not custom:  # that class cannot slide on
        context = model.config.max_position_embeddings
        ids = ids[-context // 2 :]
        length = min(length, context - len(ids))
    sampling = {"do_sample": asked.temperature > 0, "max_new_tokens": length}
    if asked.temperature > 0:
        sampling |= {"temperature": asked.temperature, "top_k": asked.top_k}
    else:
        sampling |= {"temperature": None, "top_k": None}
    streamer = TextStreamer(tokenizer, skip_special_tokens=True) if asked.stream else None
    written = model.generate(torch.tensor([ids]), **sampling, streamer=streamer, pad_token_id=tokenizer.eos_token_id)
    if not asked.stream:
        print(tokenizer.decode(written[0], skip_special_tokens=True))
    return 0


def prompt_ids(tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt as they would stand inside a longer text: behind a line break something follows. An empty prompt is
    the end of a text before."""
    if prompt.endswith("\n"):
        return tokenizer(prompt + "A")["input_ids"][:-1]
    return tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id]


if __name__ == "__main__":
    sys.exit(main())
