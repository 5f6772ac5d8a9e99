"""What it costs to find where the training text says the same: the index, and a question to it.

    python benchmarks/passages.py --data dataset/en --tokens 250e6 --folder /tmp/passages

250 million tokens are about a gigabyte of text. They are made of pieces of 20 to 200 tokens of real training text in a
random order, with a random token in every tenth: real text is not here in such an amount.
"""

import argparse
import json
import resource
import shutil
import time
from pathlib import Path

import numpy as np

from wikigpt.data.passages import FOLDER, Passages, matches
from wikigpt.data.shards import DataFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tokens", type=float, default=250e6)
    asked = parser.parse_args()
    data = DataFolder(asked.data)
    large = enlarged(data, asked.folder, int(asked.tokens))
    shutil.rmtree(large.path / FOLDER, ignore_errors=True)
    start = time.perf_counter()
    index = Passages(large)
    built = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (large.path / FOLDER).iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{large.training_tokens:,} tokens: index in {built:.1f} s, peak {peak / 2**30:.2f} GiB, "
        f"{size / 2**30:.2f} GiB on disk"
    )
    held_out = data.stream("validation").read(0, 4000)
    for number in range(4):
        ids = held_out[number * 200 : number * 200 + 200]
        start = time.perf_counter()
        found = matches(ids, [index], 8)
        seconds = time.perf_counter() - start
        longest = max((match.length for match in found), default=0)
        print(f"200 tokens: {len(found)} passages of 8 tokens or more, the longest {longest}, {seconds:.3f} s")


def enlarged(data: DataFolder, folder: Path, tokens: int) -> DataFolder:
    """A data folder with so many training tokens in documents of about 500."""
    if not (folder / "manifest.json").exists():
        folder.mkdir(parents=True)
        random = np.random.default_rng(0)
        stream = data.stream("train")
        source = stream.read(0, len(stream)).astype(np.uint16)
        written, ends = 0, []
        with open(folder / "train_00000.bin", "wb") as file:
            while written < tokens:
                lengths = random.integers(20, 200, 20_000)
                starts = random.integers(0, len(source) - 200, 20_000)
                parts = [source[a : a + n].copy() for a, n in zip(starts, lengths, strict=True)]
                for part in parts[::10]:
                    part[len(part) // 2] = random.integers(0, data.vocab_size - 1)
                text = np.concatenate(parts)
                text[text == data.end_of_text] = 0
                text[499::500] = data.end_of_text
                text[-1] = data.end_of_text
                ends.append(written + np.flatnonzero(text == data.end_of_text) + 1)
                file.write(text.tobytes())
                written += len(text)
        np.concatenate(ends).astype("<u8").tofile(folder / "train_00000.bin.index")
        manifest = dict(data.manifest)
        manifest["splits"] = {**manifest["splits"], "train": {**manifest["splits"]["train"], "tokens": written}}
        manifest["files"] = {"train_00000.bin": {"bytes": written * 2, "sha256": ""}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return DataFolder(folder)


if __name__ == "__main__":
    main()
