"""One page about a run, in one file that opens anywhere: on a phone, on paper, without a network.

run.json, metrics.jsonl, samples.md  ──>  report.html
"""

import re
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from wikigpt.config import RunConfig, write_text
from wikigpt.evaluate.articles import in_words
from wikigpt.evaluate.kept import read_ladder, read_step
from wikigpt.evaluate.ladder import draw_ladder, height
from wikigpt.evaluate.tasks import in_line
from wikigpt.metrics import Rows, draw_bits, draw_loss, duration, last_score, read_all, svg
from wikigpt.runs import Run, read_run

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --strong: #1f6fb4; }
@media (prefers-color-scheme: dark) { :root { --strong: #7db8ea; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1 { margin: .2rem 0; } h2 { margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); } h3 { margin: 1.2rem 0 .3rem; }
.figures { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; padding: 0; list-style: none; }
.figures li { background: var(--soft); border-radius: .5rem; padding: .5rem .9rem; flex: 1 1 8rem; }
.figures b { display: block; font-size: 1.5rem; color: var(--strong); white-space: nowrap; }
.plots, .samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem; }
.plots svg, .ladder svg { width: 100%; max-width: 46rem; height: auto; } h4 { margin: .4rem 0; }
.samples > div { background: var(--soft); border-radius: .5rem; padding: .5rem .8rem; overflow-wrap: anywhere; }
.samples p { margin: .2rem 0; white-space: pre-wrap; font-size: .92rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } footer, .note { font-size: .9rem; opacity: .8; }
@media print { body { font-size: 10pt; max-width: none; } .samples > div, .figures li { border: 1px solid #bbb; }
  .samples > div, .plots > div, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""


def write_report(run: Path) -> Path:
    """Writes report.html into a run folder. Raises RunError where there is no run."""
    found, rows = read_run(run), read_all(run)
    sections = (
        _summary(found, rows),
        _curves(rows),
        _evaluation(run),
        _samples(run / "samples.md"),
        _data(found.config),
        _settings(found.config),
    )
    path = run / "report.html"
    write_text(path, page(found.name, "\n".join(sections)))
    return path


def page(title: str, body: str, style: str = "") -> str:
    """A whole HTML page."""
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    head += f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>'
    return f"{head}<body>{body}</body></html>\n"


def _summary(run: Run, rows: Rows) -> str:
    config, train, score = run.config, rows["train"], last_score(rows)
    state = "finished" if run.finished else f"stopped at step {run.step:,} of {config.total_steps:,}"
    figures = [
        (f"{config.model.n_parameters / 1e6:,.1f} M", "parameters"),
        (f"{run.tokens / 1e6:,.2f} M", "tokens read"),
    ]
    if score:
        figures += [
            (f"{score['bits_per_byte']:.3f}", "bits per byte"),
            (f"{score['bigram_bits_per_byte']:.3f}", "Kneser-Ney bigram"),
            (f"{score['perplexity']:,.1f}", "perplexity per token"),
        ]
    if train:
        seconds = train[-1]["seconds"]
        figures += [(duration(seconds), "in training steps"), (f"{run.tokens / seconds:,.0f}", "tokens per second")]
    cards = "".join(f"<li><b>{escape(value)}</b>{escape(what)}</li>" for value, what in figures)
    measured = f'<p class="note">Measured on: {escape(str(score["part"]))}.</p>' if score else ""
    what = f"A GPT ({escape(config.model_config)}) trained on {escape(config.data_name)}; {state}."
    return f'<h1>{escape(run.name)}</h1><p>{what}</p><ul class="figures">{cards}</ul>{measured}'


def _curves(rows: Rows) -> str:
    if not rows["train"]:
        return ""
    plots = (
        f'<div role="img" aria-label="{label}">{svg(draw, rows)}</div>'
        for label, draw in (
            ("Loss and learning rate against tokens", draw_loss),
            ("Bits per byte against tokens", draw_bits),
        )
    )
    note = "Bits per byte: what the model needs to write down a byte of text that it has never seen; lower is better."
    return f'<h2>Curves</h2><div class="plots">{"".join(plots)}</div><p class="note">{note}</p>'


def _evaluation(run: Path) -> str:
    """What `wikigpt evaluate` has measured of the newest step that it was asked about."""
    found, climbed = read_step(run), read_ladder(run)
    tasks, harness = found.pop("tasks", {}), found.pop("lm_eval", {})
    parts = [_split_figures(name, record) for name, record in found.items()]
    if climbed:
        drawn = svg(draw_ladder, climbed, height(climbed))
        label = "Bits per byte of compressors, counting models and this model on the same articles"
        parts.append(f'<h3>The ladder</h3><div role="img" aria-label="{label}" class="ladder">{drawn}</div>')
        parts.append(_columns(("", "knows", "bits per byte", "95%"), [_rung(rung) for rung in climbed["rungs"]]))
    rows = [(f"{task}, {model}", in_line(one)) for task, models in tasks.items() for model, one in models.items()]
    rows += [(f"{task} (lm-eval)", in_line(scores)) for task, scores in harness.items()]
    if rows:
        parts.append(f"<h3>Benchmarks</h3>{table(rows)}")
    return f"<h2>How good it is</h2>{''.join(parts)}" if parts else ""


def _split_figures(name: str, record: dict[str, Any]) -> str:
    """The figures of a split, its best and its worst articles."""
    said = f"<p>{escape(in_words(record))}.</p>"
    how = f"Step {record['step']:,}; context {record['context']:,}, stride {record['stride']:,}. All articles: {name}.tsv."
    lists = [
        [(f"{row['bits_per_byte']:.2f} {row['title']}", f"{row['bytes']:,} bytes") for row in record[kind]]
        for kind in ("worst", "best")
    ]
    beside = f"<div><h4>worst</h4>{table(lists[0])}</div><div><h4>best</h4>{table(lists[1])}</div>"
    return f'<h3>{escape(name)}</h3>{said}<p class="note">{escape(how)}</p><div class="plots">{beside}</div>'


def _rung(rung: dict[str, Any]) -> tuple[str, ...]:
    spread = "" if rung["interval"] is None else "{:.3f} to {:.3f}".format(*rung["interval"])
    return rung["name"], rung["how"], f"{rung['bits_per_byte']:.3f}", spread


def _columns(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def read_samples(path: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """What samples.md holds: for each step ("Step 1,024") titles and what was written for them; nothing without a file."""
    if not path.exists():
        return []
    found = []
    for section in re.split(r"(?m)^## ", path.read_text(encoding="utf-8", errors="replace"))[1:]:
        step, _, body = section.partition("\n")
        samples = []
        for sample in re.split(r"(?m)^\*\*(?=.*\*\*$)", body)[1:]:
            title, _, text = sample.partition("\n")
            lines = "\n".join(line.removeprefix(">").removeprefix(" ") for line in text.strip().splitlines())
            samples.append((title.removesuffix("**").strip(), lines.strip()))
        found.append((step.strip(), samples))
    return found


def _samples(path: Path) -> str:
    """What the model wrote for the same titles, from step 0 to the end."""
    parts = []
    for step, samples in read_samples(path):
        shown = "".join(f"<div><strong>{escape(t)}</strong><p>{escape(text)}</p></div>" for t, text in samples)
        parts.append(f'<h3>{escape(step)}</h3><div class="samples">{shown}</div>')
    return f"<h2>What it wrote</h2>{''.join(parts)}" if parts else ""


def _data(config: RunConfig) -> str:
    rows = [
        (
            f"{part['name']}",
            f"{part['origin']}; {part['articles']:,} articles and {part['tokens']:,} tokens to train on",
        )
        for part in config.source
    ]
    licences = "".join(
        f"<p>{escape(part['attribution'])} Licence of the text: {escape(part['licence'])}.</p>"
        for part in config.source
    )
    warning = "A trained model may repeat its training text word for word; the licence of that text then applies."
    return f'<h2>Data</h2>{table(rows)}{licences}<p class="note">{warning}</p>'


def _settings(config: RunConfig) -> str:
    record = asdict(config)
    model, training, _ = record.pop("model"), record.pop("training"), record.pop("source")
    tables = "".join(
        f"<h3>{name}</h3>{table(list(values.items()))}"
        for name, values in (("Model", model), ("Training", training), ("Run", record))
    )
    return f"<h2>Settings</h2>{tables}<footer>Written by WikiGPT {escape(config.wikigpt_version)}.</footer>"


def table(rows: list[tuple[str, Any]]) -> str:
    """Names and what they are, one a row."""
    cells = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape("-" if value is None else str(value))}</td></tr>'
        for name, value in rows
    )
    return f'<div class="wide"><table>{cells}</table></div>'
