"""Articles to tokens, end to end: `wikigpt prepare` against what nanoGPT does for OpenWebText, datasets.map with tiktoken.

    python benchmarks/prepare.py [--copies 20] [--workers N] [--passes 3]

Both read the same JSON lines (the 98 articles that gensim carries, each `copies` times under another name), encode them with
GPT-2's vocabulary on as many processes or threads, and write uint16 tokens. Ours also filters, drops duplicates, splits,
hashes, and writes the article index. In turns; the median of the passes. Also: the dump itself to tokens, ours alone.
The peer: pip install datasets
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path

PEER = """
import sys, numpy, datasets
path, out, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
from wikigpt.tokenizer import gpt2   # the same tiktoken encoding, found offline
encoding = gpt2().encoding

def encode(row):
    ids = encoding.encode_ordinary(f"# {row['title']}\\n\\n{row['text']}")
    ids.append(50256)
    return {"ids": ids, "len": len(ids)}

data = datasets.load_dataset("json", data_files=path, split="train", cache_dir=out + "/cache")
parts = data.train_test_split(test_size=0.02, seed=1, shuffle=True)
parts = parts.map(encode, remove_columns=data.column_names, num_proc=workers)
for name, part in parts.items():
    total = int(numpy.sum(part["len"], dtype=numpy.uint64))
    tokens = numpy.memmap(f"{out}/{name}.bin", dtype=numpy.uint16, mode="w+", shape=(total,))
    at = 0
    shards = min(64, len(part))
    for number in range(shards):
        batch = part.shard(num_shards=shards, index=number, contiguous=True).with_format("numpy")
        if len(batch):
            ids = numpy.concatenate(batch["ids"])
            tokens[at : at + len(ids)] = ids
            at += len(ids)
    tokens.flush()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--passes", type=int, default=3)
    flags = parser.parse_args()
    excerpt = distribution("gensim").locate_file(
        "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_articles(Path(str(excerpt)), folder, flags.copies)
        wikigpt = [sys.executable, "-m", "wikigpt"]
        mine = [*wikigpt, "prepare", "--path", "in.jsonl", "--name", "mine", "--tokenizer", "gpt2", "--fresh"]
        dump = [*wikigpt, "prepare", "--path", str(excerpt), "--name", "dump", "--tokenizer", "gpt2", "--fresh"]
        rows = {
            "wikigpt prepare, from JSON lines": ([*mine, "--workers", str(flags.workers)], size),
            "datasets.map + tiktoken": ([sys.executable, "-c", PEER, "in.jsonl", "peer", str(flags.workers)], size),
            "wikigpt prepare, from the dump": ([*dump, "--held_out", "0.05"], 5_751_000),
        }
        seconds: dict[str, list[float]] = {row: [] for row in rows}
        for _ in range(flags.passes):
            for row, (command, _) in rows.items():
                shutil.rmtree(folder / "peer", ignore_errors=True)
                (folder / "peer").mkdir()
                start = time.perf_counter()
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
                if done.returncode:
                    print(f"{row}: {done.stderr.strip().splitlines()[-1]}")
                    continue
                seconds[row].append(time.perf_counter() - start)
        print(
            f"{size / 1e6:.1f} MB of text, {flags.workers} workers, median of {flags.passes}, start of Python included"
        )
        for row, (_, bytes_) in rows.items():
            if seconds[row]:
                taken = statistics.median(seconds[row])
                print(f"{row:36} {taken:6.1f} s  {bytes_ / 1e6 / taken:6.1f} MB/s")


def write_articles(excerpt: Path, folder: Path, copies: int) -> int:
    """Writes in.jsonl and returns the bytes of its texts."""
    from wikigpt.data.article import Article
    from wikigpt.data.sources import dump

    articles = [article for article in dump([excerpt], "") if isinstance(article, Article)]
    size = 0
    with open(folder / "in.jsonl", "w", encoding="utf-8") as file:
        for copy in range(copies):
            for article in articles:
                text = f"Copy {copy}. {article.text}"
                size += len(text.encode())
                file.write(json.dumps({"title": f"{article.title} {copy}", "text": text}, ensure_ascii=False) + "\n")
    return size


if __name__ == "__main__":
    main()
