"""One page about a data folder, in one file that opens anywhere.

manifest.json, articles.parquet  ──>  dataset/<name>/report.html
"""

from html import escape
from pathlib import Path

from wikigpt.config import write_text
from wikigpt.data.shards import DataFolder
from wikigpt.data.stats import Stats, stats
from wikigpt.report import page, table

STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .15rem .7rem; align-items: center; }
.bars i { background: var(--strong); height: .9rem; border-radius: .2rem; min-width: 1px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.pair pre { background: var(--soft); border-radius: .5rem; padding: .6rem .8rem; margin: 0; max-height: 26rem;
  overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; font: .82rem/1.45 ui-monospace, monospace; }
.pair pre.text { font-family: inherit; font-size: .92rem; }
"""


def write_data_report(data: DataFolder) -> Path:
    """Writes report.html into a data folder."""
    found = stats(data)
    sections = (_summary(data, found), _lengths(found), _dropped(data), _examples(data), _origin(data))
    path = data.path / "report.html"
    write_text(path, page(data.name, "\n".join(sections), STYLE))
    return path


def _summary(data: DataFolder, found: Stats) -> str:
    tokens = sum(split["tokens"] for split in found.splits.values())
    articles = sum(split["articles"] for split in found.splits.values())
    tokenizer = data.manifest["tokenizer"]
    figures = [
        (f"{articles:,}", "articles"),
        (f"{tokens / 1e6:,.2f} M", "tokens"),
        (f"{found.bytes_per_token:.2f}", "bytes per token"),
        (f"{found.median:,}", "tokens in the median article"),
        (f"{tokenizer['vocab_size']:,}", f"tokens in the vocabulary ({tokenizer['name']})"),
    ]
    cards = "".join(f"<li><b>{escape(value)}</b>{escape(what)}</li>" for value, what in figures)
    rows = [
        (name, f"{split['articles']:,} articles, {split['tokens']:,} tokens, {split['bytes'] / 1e6:,.1f} MB")
        for name, split in found.splits.items()
    ]
    origin = escape(data.manifest["source"]["origin"])
    return f'<h1>{escape(data.name)}</h1><p>Made of {origin}.</p><ul class="figures">{cards}</ul>{table(rows)}'


def _lengths(found: Stats) -> str:
    most = max((count for *_, count in found.histogram), default=1) or 1
    bars = "".join(
        f'<span>{low:,} to {high - 1:,}</span><i style="width:{100 * count / most:.1f}%"></i><span>{count:,}</span>'
        for low, high, count in found.histogram
    )
    longest = table([(title, f"{length:,} tokens") for title, length in found.longest])
    return f'<h2>Lengths in tokens</h2><div class="bars">{bars}</div><h3>The longest</h3>{longest}'


def _dropped(data: DataFolder) -> str:
    examples = data.manifest.get("examples", {})
    rows = [
        (reason, f"{number:,}" + (f": {', '.join(examples[reason])} …" if examples.get(reason) else ""))
        for reason, number in data.manifest.get("dropped", {}).items()
    ]
    return f"<h2>What was left out, and why</h2>{table(rows) if rows else '<p>Nothing.</p>'}"


def _examples(data: DataFolder) -> str:
    shown = data.manifest.get("before_and_after", [])
    parts = "".join(
        f"<h3>{escape(one['title'])}</h3><div class='pair'><pre>{escape(one['before'])}</pre>"
        f"<pre class='text'>{escape(one['after'])}</pre></div>"
        for one in shown
    )
    return f"<h2>Before and after</h2><p class='note'>The beginnings of a few articles.</p>{parts}" if shown else ""


def _origin(data: DataFolder) -> str:
    source = data.manifest["source"]
    files = "".join(
        f"<li>{escape(file['name'])} {escape(' '.join(f'{k} {v}' for k, v in file.items() if k != 'name'))}</li>"
        for file in source["files"]
    )
    settings = [(name, value) for name, value in data.manifest["settings"].items()]
    return (
        f"<h2>Licence and origin</h2><p>{escape(source['attribution'])} Licence of the text: {escape(source['licence'])}. "
        "Whoever passes it on owes each article's address and revision (articles.parquet has them), the licence, and a word "
        f"that it was changed.</p>{table([*settings, ('cleaner', source['cleaner'])])}"
        f"<h3>Files</h3><ul class='note' style='overflow-wrap:anywhere'>{files}</ul>"
    )
