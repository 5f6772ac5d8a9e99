"""The page that a published model opens with: what it is, how good, from which text, and what not to expect."""

from wikigpt.metrics import last_score, read_all
from wikigpt.runs import Run


def model_card(run: Run) -> str:
    """README.md of an export, with the fields at its head that the hub reads."""
    config, source = run.config, run.config.source
    figures = last_score(read_all(run.path))
    score = ""
    if figures:
        score = (
            f"{figures['bits_per_byte']:.3f} bits per byte on held-out articles ({figures['part']}); a Kneser-Ney "
            f"bigram has {figures['bigram_bits_per_byte']:.3f}.\n"
        )
    # In quotes: Norwegian's code, no, would be read as false.
    languages = list(dict.fromkeys(f'"{part["wiki"]}"' for part in source if part["wiki"]))
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
{config.wikigpt_version} on {run.tokens / 1e6:,.1f} million tokens. {score}
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
