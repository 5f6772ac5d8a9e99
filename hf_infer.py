"""Text from a published model, with torch and transformers alone: nothing of WikiGPT is imported.

python hf_infer.py --model USER/NAME --input "Once upon a time"      from the Hugging Face hub
python hf_infer.py                                                   the newest folder in exports/
"""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Prints the text. Returns 2 after a mistake, which is told in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", help="USER/NAME on the hub, or a folder; the newest in exports/ unless given")
    add("--input", default="# Moon cheese\n\n", help="text to continue; '# Title' and an empty line ask for an article")
    add("--max_gen", type=int, default=100, help="tokens at the most")
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest token always")
    add("--top_k", type=int, default=50, help="draw from the k likeliest tokens only")
    add("--seed", type=int, help="the same seed gives the same text")
    add("--stream", action="store_true", help="print the text while it is written")
    add("--stock", action="store_true", help="transformers' own GPT-2 code instead of modeling_gpt2_custom.py")
    asked = parser.parse_args()
    try:
        return generate(asked, asked.model or newest_export())
    except KeyboardInterrupt:
        return 130
    except (ImportError, OSError, ValueError) as error:
        print(" ".join(str(error).split())[:400], file=sys.stderr)
        return 2


def newest_export() -> str:
    """The folder that `python export_to_hf.py` wrote last."""
    folders = sorted(Path("exports").glob("[!.]*/config.json"), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise ValueError("exports/ has no model yet. Make one with: python export_to_hf.py, or give --model USER/NAME.")
    return str(folders[-1].parent)


def hub_token() -> str | None:
    """HF_TOKEN of the environment or of .env: only a private model needs one."""
    from dotenv import dotenv_values

    return (os.environ.get("HF_TOKEN") or dotenv_values(".env").get("HF_TOKEN") or "").strip() or None


def generate(asked: argparse.Namespace, name: str) -> int:
    """Loads model and tokenizer and continues the text."""
    if asked.temperature < 0 or asked.max_gen < 1 or asked.top_k < 1:
        raise ValueError("--temperature must be 0 or more, --max_gen and --top_k 1 or more.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer
    from transformers.utils import logging

    logging.disable_progress_bar()

    token = hub_token()
    tokenizer = AutoTokenizer.from_pretrained(name, token=token)
    model = AutoModelForCausalLM.from_pretrained(name, token=token, trust_remote_code=not asked.stock)
    print(f"model: {name} ({type(model).__name__})", file=sys.stderr)
    if asked.seed is not None:
        torch.manual_seed(asked.seed)
    ids = tokenizer(asked.input)["input_ids"] or [tokenizer.eos_token_id]  # nothing is the end of a text before
    length = asked.max_gen
    if asked.stock:  # that class cannot slide on
        ids = ids[-model.config.n_positions // 2 :]
        length = min(length, model.config.n_positions - len(ids))
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


if __name__ == "__main__":
    sys.exit(main())
