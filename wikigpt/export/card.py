"""The page that a published model opens with, written from its run: what it is, how good, from which text, how to load it,
and what not to expect.

run.json, metrics.jsonl, samples.md, evaluation/, card.md ──> README.md, its pictures, LICENSE, and a Modelfile beside GGUF
files
"""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from wikigpt.analysis.writing import write_writing
from wikigpt.config import HUB, RunConfig, write_text
from wikigpt.evaluate.articles import in_words
from wikigpt.evaluate.kept import read_ladder, read_step
from wikigpt.evaluate.ladder import plot_ladder, table
from wikigpt.evaluate.tasks import in_line
from wikigpt.export.licence import credits, hub_licence, notice, texts
from wikigpt.export.reproduce import commands, data_names
from wikigpt.export.trained import Form, Trained
from wikigpt.metrics import duration, plot_loss, read_all
from wikigpt.report import read_samples
from wikigpt.train import TITLES

LADDER, WRITING = "ladder.png", "writing.svg"  # pictures beside the card

# Codes of Wikipedias that are none of ISO 639, which is what the hub takes.
ISO_639 = {
    "simple": "en", "no": "nb", "als": "gsw", "bat-smg": "sgs", "be-tarask": "be", "be-x-old": "be", "fiu-vro": "vro",
    "nds-nl": "nds", "roa-rup": "rup", "zh-classical": "lzh", "zh-min-nan": "nan", "zh-yue": "yue", "cbk-zam": "cbk",
    "map-bms": "jv", "roa-tara": "nap",
}  # fmt: skip


def write_card(trained: Trained, form: Form, folder: Path, repository: str, revision: str | None = None) -> None:
    """Writes README.md, its picture and LICENSE, and with GGUF files a Modelfile for Ollama."""
    licence = notice(trained.run.config)
    write_text(folder / "LICENSE", licence)
    title = f"{trained.name}: {trained.config.n_parameters / 1e6:.1f} million parameters"
    plot_loss(trained.run.path, title, folder / "curves.png")
    if climbed := ladder_of(trained):
        plot_ladder(folder / LADDER, climbed)
    if written_until(trained):
        write_writing(trained.run, path=folder / WRITING, until=trained.step)
    if form.gguf:
        from wikigpt.export.gguf import write_modelfile

        write_modelfile(trained, form.gguf[0], folder, licence)
    write_text(folder / "README.md", card(trained, form, repository, revision))


def card(trained: Trained, form: Form, repository: str, revision: str | None = None) -> str:
    """README.md, with the fields at its head that the hub reads."""
    run, config, prompt = trained.run.config, trained.config, example(trained)
    length, tokens = min(200, config.context_length // 2), trained.step * run.tokens_per_step
    commit = run.wikigpt_commit.rstrip("+")
    words = {
        "metadata": metadata(trained, form.gguf),
        "name": trained.name,
        "kind": "A GPT-2" if config.arch == "gpt2" else "A GPT in the shape of Qwen3",
        "custom": CUSTOM_CODE if config.arch == "gpt2" else "",
        "millions": f"{config.n_parameters / 1e6:,.1f}",
        "began": f"on the weights of {run.init_name}" if run.init_name else "from scratch",
        "tokens": f"{tokens / 1e6:,.1f} million" if tokens >= 1e5 else f"{tokens:,}",
        "text": text_name(run),
        "figures": _figures(trained, form.dtype) + _measured(trained),
        "repository": repository,
        "snippet": snippet(repository, prompt, revision),
        "at": f" --revision {shlex.quote(revision)}" if revision else "",
        "request": shlex.quote(
            json.dumps({"model": repository, "prompt": prompt, "max_tokens": length}, ensure_ascii=False)
        ),
        "llama": _llama(trained, form.gguf, prompt, length),
        "escaped": _escaped(prompt),
        "in_bash": in_bash(prompt),
        "length": length,
        "context": f"{config.context_length:,}",
        "end_of_text": trained.tokenizer.end_word,
        "samples": _samples(trained),
        "data": _data(run),
        "shape": _shape(trained),
        "settings": _settings(trained),
        "seen": f"{text_name(run)} and what {run.init_name} had seen,"
        if run.init_name
        else f"{text_name(run)} and nothing else:",
        "credits": "\n".join(f"- {credit}" for credit in credits(run)),
        "checkout": f"At commit `{commit}` of WikiGPT:" if commit else "With WikiGPT:",
        "commands": "\n".join(commands(run, trained.run.name, trained.step, form.flags)),
    }
    return Template(Path(__file__).with_name("card.md").read_text(encoding="utf-8")).substitute(words)


def metadata(trained: Trained, gguf: Sequence[str]) -> str:
    """YAML, by the rules of the hub (github.com/huggingface/hub-docs, modelcard.md)."""
    from huggingface_hub import EvalResult, ModelCardData

    run = trained.run.config
    wikis = list(dict.fromkeys(part["wiki"] for part in texts(run) if part["wiki"]))
    datasets = list(dict.fromkeys(part["origin"].split(",")[0] for part in texts(run) if part.get("kind") == "hf"))
    base = run.init_name if run.init_from and run.init_from.startswith(HUB) else None
    score = score_of(trained) or {}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=datasets[0] if datasets else "wikipedia" if wikis else "text",
            dataset_name=f"{text_name(run)}, held-out articles ({score['part']})",
            dataset_split="validation",
            metric_type=kind,
            metric_name=name,
            metric_value=round(score[kind], 4),
        )
        for kind, name in (("bits_per_byte", "Bits per byte"), ("perplexity", "Perplexity per token"))
        if score
    ]
    data = ModelCardData(
        language=list(dict.fromkeys(code for wiki in wikis if (code := _iso(wiki)))) or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["wikigpt", trained.config.arch, *(["wikipedia"] if wikis else []), *(["gguf"] if gguf else [])],
        datasets=datasets or None,
        eval_results=results or None,
        model_name=trained.name if results else None,
        base_model=base,
        **hub_licence(run),  # type: ignore[arg-type]
    )
    return data.to_yaml().strip()


def example(trained: Trained) -> str:
    """A prompt for an article. The title once more behind the empty line: at the end of a prompt GPT-2's vocabulary takes
    two line breaks as one token, which inside an article they never are."""
    found = read_samples(trained.run.path / "samples.md")
    languages = [part["wiki"] for part in trained.run.config.source if part["wiki"] in TITLES] or ["en"]
    title = found[-1][1][-1][0] if found and found[-1][1] else TITLES[languages[0]][-1]
    return f"# {title}\n\n{title}"


def score_of(trained: Trained) -> dict[str, Any] | None:
    """What was measured at the step of this checkpoint: on all of the validation split, or on its beginning."""
    rows = read_all(trained.run.path)
    at_step = [row for row in (*rows["final"], *rows["validation"]) if row["step"] == trained.step]
    return at_step[0] if at_step else None


def snippet(repository: str, prompt: str, revision: str | None = None) -> str:
    """Three lines of Python that write with a published model."""
    at = f", revision={json.dumps(revision)}" if revision else ""
    return (
        "from transformers import pipeline\n"
        f'write = pipeline("text-generation", model="{repository}"{at})\n'
        f'print(write({json.dumps(prompt, ensure_ascii=False)})[0]["generated_text"])'
    )


def in_bash(text: str) -> str:
    """A text with line breaks as one word of bash or zsh."""
    inside = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"$'{inside}'"


def _escaped(text: str) -> str:
    """The same for programs that read backslash and n as a line break themselves."""
    return shlex.quote(text.replace("\\", "\\\\").replace("\n", "\\n"))


def _iso(wiki: str) -> str | None:
    code = ISO_639.get(wiki, wiki)
    return code if re.fullmatch("[a-z]{2,3}", code) else None


def text_name(run: RunConfig) -> str:
    """Wikipedia (pt, es), and the names of what is no Wikipedia."""
    wikis = list(dict.fromkeys(part["wiki"] for part in run.source if part["wiki"]))
    others = [part["name"] for part in run.source if not part["wiki"]]
    words = [*([f"Wikipedia ({', '.join(wikis)})"] if wikis else []), *others]
    return ", ".join(words) or run.data_name


def _figures(trained: Trained, dtype: str) -> str:
    if (score := score_of(trained)) is None:
        return f"It was not evaluated at this step ({trained.step:,})."
    rows = [("**this model**", f"**{score['bits_per_byte']:.3f}**", f"{score['perplexity']:,.1f}")]
    rows += [("Kneser-Ney bigram", f"{score['bigram_bits_per_byte']:.3f}", "")]
    for row in read_all(trained.run.path)["validation"][:1]:
        if row["step"] == 0 and not trained.run.config.init_from:
            name = f"this model before its first step ({row['part']})"
            rows += [(name, f"{row['bits_per_byte']:.3f}", f"{row['perplexity']:,.0f}")]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    rounded = (
        f" The weights here are rounded to {dtype}; the figures are of those before." if dtype != "float32" else ""
    )
    return f"""| | bits per byte | perplexity per token |
|---|---|---|
{lines}

Measured on held-out articles ({score["part"]}; {score["scored_bytes"]:,} bytes of text), each token predicted once from what
stands before it in its window of {trained.config.context_length:,}. *Bits per byte* are what the model needs to write these
tokens down, end-of-text included, over the UTF-8 bytes of their text: lower is better, and comparable between tokenizers.
The bigram is an interpolated Kneser-Ney model of the training text, which knows only which token follows which, scored on
the same tokens. The picture shows the part that was scored while it trained.{rounded}"""


def ladder_of(trained: Trained) -> dict[str, Any]:
    """The run's ladder, where this checkpoint stands on it; nothing where it does not."""
    found = read_ladder(trained.run.path)
    own = f"{trained.run.name}, step {trained.step:,}"
    return found if any(rung["name"] == own for rung in found.get("rungs", ())) else {}


def _measured(trained: Trained) -> str:
    """What `wikigpt evaluate` has measured of this checkpoint: splits by article, the ladder, benchmarks."""
    found, parts = read_step(trained.run.path, trained.step), []
    tasks, harness = found.pop("tasks", {}), found.pop("lm_eval", {})
    for name, record in found.items():
        how = f"context {record['context']:,}, stride {record['stride']:,}, every article on its own"
        parts.append(f"**{name}**, all articles ({how}): {in_words(record)}.")
    if climbed := ladder_of(trained):
        what = f"{climbed['articles']:,} {climbed['split']} articles of {climbed['data']}"
        parts.append(f"The same {what}, by what only compresses, what only counts, and this model:")
        parts += [table(climbed), f"![Bits per byte of each]({LADDER})"]
    rows = [f"| {task} | {model} | {in_line(one)} |" for task, models in tasks.items() for model, one in models.items()]
    rows += [
        f"| {task} (lm-evaluation-harness) | {trained.run.name} | {in_line(one)} |" for task, one in harness.items()
    ]
    if rows:
        parts.append("\n".join(["| benchmark | model | |", "|---|---|---|", *rows]))
    if parts:
        parts.append("What these figures say and do not say: docs/evaluation.md of WikiGPT.")
    return "".join(f"\n\n{part}" for part in parts)


def _llama(trained: Trained, gguf: Sequence[str], prompt: str, length: int) -> str:
    if not gguf:
        return "**llama.cpp, Ollama**: make the file for them with `wikigpt export --gguf f16`."
    from wikigpt.export.gguf import file_name

    file, name = file_name(trained, gguf[0]), trained.name.lower()
    return f"""**llama.cpp**, **Ollama**:

```bash
llama-completion -m {file} -no-cnv -n {length} -p {_escaped(prompt)}
ollama create {name} -f Modelfile && ollama run {name} {in_bash(prompt)}
```"""


def written_until(trained: Trained) -> list[tuple[int, list[tuple[str, str]]]]:
    """What the run wrote up to this step, by step."""
    found = read_samples(trained.run.path / "samples.md")
    numbered = [(int(re.sub(r"\D", "", step) or 0), samples) for step, samples in found]
    return [(step, samples) for step, samples in numbered if step <= trained.step and samples]


def _samples(trained: Trained) -> str:
    """What the run wrote at this step, or the last time before."""
    if not (reached := written_until(trained)):
        return ""
    step, samples = reached[-1]
    shown = []
    for title, text in samples:
        lines = "\n".join(f"> {_plain(line)}".rstrip() for line in text.splitlines() or ["(nothing)"])
        shown.append(f"**{_plain(title)}**\n\n{lines}\n")
    how = (
        f"Not chosen: the beginnings of its articles for these titles after step {step:,} (temperature 0.8, top-k 50)."
    )
    moving = f"![What it wrote for one title, from its first step to this one]({WRITING})"
    return "\n".join(["\n## What it writes", "", moving, "", how, "", *shown])


def _plain(text: str) -> str:
    """A line that Markdown shows as it is, but for spaces before it."""
    marked = re.sub(r"([\\`*_\[\]<>#|~$&@])", r"\\\1", text.strip()).replace("://", r"\://")
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", marked)


def _data(run: RunConfig) -> str:
    parts = [f"**{part['name']}**\n\n{_data_table(part)}" for part in run.source]
    shares = [f"Shares: `{data_names(run)}`."] if len(parts) > 1 else []
    if any(part.get("kind") == "dump" for part in run.source):
        parts += [
            "In the prepared data each token can be traced to its article and revision: `wikigpt data show train:12345`."
        ]
    return "\n\n".join([*shares, *parts]) or "The run does not name its text."


def _data_table(part: dict[str, Any]) -> str:
    names = " ".join([part["origin"], *(file["name"] for file in part.get("files", []))])
    dates = sorted(set(re.findall(r"(?<!\d)(20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d)(?!\d)", names)))
    files = [
        f"`{file['name']}` ({', '.join(f'{kind} `{value}`' for kind, value in file.items() if kind != 'name')})"
        for file in part.get("files", [])
    ]
    held_out = part.get("settings", {}).get("held_out")
    rows = (
        ("wiki, language", f"{part['wiki']}, {_iso(part['wiki']) or 'no ISO 639 code'}" if part["wiki"] else ""),
        ("source", part["origin"]),
        ("date", ", ".join(dates)),
        ("files", "; ".join(files)),
        ("articles, tokens to train on", f"{part['articles']:,}, {part['tokens']:,}"),
        ("held out", f"{held_out:.1%} of articles for validation, as many for test" if held_out else ""),
        ("cleaned by", part.get("cleaner", "")),
        ("left out", ", ".join(f"{number:,} {reason}" for reason, number in part.get("dropped", {}).items())),
        ("manifest", f"SHA-256 `{part['manifest_sha256']}`" if part.get("manifest_sha256") else ""),
    )
    return _table(rows)


CUSTOM_CODE = """
With `trust_remote_code=True` the same weights run through `modeling_gpt2_custom.py`, the code that trained them.
"""
CLASSES = {
    "gpt2": "`GPT2LMHeadModel`: pre-norm blocks, learned positions, tanh GELU",
    "qwen3": "`Qwen3ForCausalLM`: RMSNorm, RoPE, QK-norm, grouped queries, SwiGLU, no biases",
}


def _shape(trained: Trained) -> str:
    run, config = trained.run.config, trained.config
    names = {"gpt2": "GPT-2's byte-level BPE", "bpe": "a byte-level BPE trained on the training split"}
    kind, modern = names.get(trained.tokenizer.name, "a byte-level BPE"), config.arch != "gpt2"
    rows = (
        ("class", CLASSES[config.arch] + (", head tied to the embedding" if config.tie_embeddings else "")),
        ("parameters", f"{config.n_parameters:,}"),
        ("layers, width, heads", f"{config.n_layers}, {config.emb_dim}, {config.n_heads}"),
        ("heads of keys and values, their size", f"{config.n_kv_heads}, {config.head_dim}" if modern else ""),
        ("width of the feed-forward", f"{config.ffn_dim}" if modern else ""),
        ("context", f"{config.context_length:,} tokens"),
        ("tokenizer", f"{kind}, {config.vocab_size:,} tokens"),
        ("its tokenizer.json in the run", f"SHA-256 `{run.tokenizer_hash}`" if run.tokenizer_hash else ""),
    )
    return _table(rows)


def _settings(trained: Trained) -> str:
    run, training = trained.run.config, trained.run.config.training
    steps = [row for row in read_all(trained.run.path)["train"] if row["step"] <= trained.step]
    machine = [run.device, run.hardware, f"{run.threads} threads" if run.device == "cpu" else ""]
    muon = training.optimizer == "muon"
    rates = f"{training.learning_rate:g}" + (f", of Muon {training.matrix_learning_rate:g}" if muon else "")
    clipped = f", gradients clipped at {training.max_grad_norm:g}" if training.max_grad_norm else ""
    changed = " with changes" if run.wikigpt_commit.endswith("+") else ""
    commit = f" (commit `{run.wikigpt_commit.rstrip('+')}`{changed})" if run.wikigpt_commit else ""
    rows = (
        ("length", f"{trained.step:,} steps of {run.tokens_per_step:,} tokens ({run.length} asked for)"),
        ("optimiser", f"{'Muon for the matrices of the blocks, AdamW for the rest' if muon else 'AdamW'}{clipped}"),
        ("learning rate", f"{rates}, {training.schedule}, {training.warmup_steps:,} steps of warm-up"),
        ("first weights", "blocks that do nothing" if training.zero_init and not run.init_name else ""),
        ("batch", f"{training.batch_size} x {training.gradient_accumulation_steps} windows"),
        ("weight decay, dropout", f"{training.weight_decay:g}, {trained.config.drop_rate:g}"),
        ("precision", f"matrix products in {run.dtype}, weights in float32, {run.backend or 'plain'}"),
        ("seed", f"{run.seed}"),
        ("weights to begin with", f"{run.init_name}, SHA-256 `{run.init_hash}`" if run.init_name else ""),
        ("hardware", ", ".join(word for word in machine if word)),
        ("time", f"{duration(steps[-1]['seconds'])} in training steps" if steps else ""),
        ("software", f"WikiGPT {run.wikigpt_version}{commit}, PyTorch {run.torch_version}"),
    )
    return _table(rows)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows if value)
    return f"| | |\n|---|---|\n{body}"
