"""The page that a published model opens with: what it is, how good, from which text, and what not to expect."""

from wikigpt.metrics import read_metrics
from wikigpt.runs import Run


def model_card(run: Run) -> str:
    """README.md of an export, with the fields at its head that the hub reads."""
    config, source = run.config, run.config.source
    tokens = run.step * config.training.windows_per_step * config.model.context_length
    final = read_metrics(run.path, "final") or read_metrics(run.path, "validation")
    score = ""
    if final:
        score = (
            f"{final[-1]['bits_per_byte']:.3f} bits per byte on held-out articles ({final[-1]['part']}); a Kneser-Ney "
            f"bigram has {final[-1]['bigram_bits_per_byte']:.3f}.\n"
        )
    languages = list(
        dict.fromkeys(f'"{part["wiki"]}"' for part in source if part["wiki"])
    )  # no is a language, not false
    head = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [wikigpt, gpt2]"]
    head += [f"language: [{', '.join(languages)}]"] if languages else []
    texts = "\n".join(
        f"- {part['origin']}; licence: {part['licence']}. {part['attribution']}".rstrip() for part in source
    )
    return (
        "\n".join(head)
        + f"""
---

# {run.name}

A GPT-2 of {config.model.n_parameters / 1e6:.1f} million parameters, pre-trained from scratch with WikiGPT
{config.wikigpt_version} on {tokens / 1e6:,.1f} million tokens. {score}
It is a base model: it continues text and does not answer questions. What it says about the world is not to be believed. It
may repeat text that it was trained on word for word, whose licence then applies.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained("PATH OR USER/NAME") for kind in (AutoModelForCausalLM, AutoTokenizer))
inputs = tokenizer("# Moon cheese\\n\\n", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0]))
```

With `trust_remote_code=True` the same weights run through `modeling_gpt2_custom.py`, the code that trained them.

## Training text

{texts}
"""
    )
