"""Our shards are what nanoGPT and datatrove write, and a damaged one is named."""

import numpy as np
import pytest

from wikigpt.data.shards import DataFolder, ShardWriter, TokenStream, find_data, token_dtype, write_manifest
from wikigpt.errors import DataError

DOCUMENTS = [np.arange(5), np.array([7]), np.arange(100, 140), np.array([65535, 0]), np.arange(9)]


def write(folder, number=0, ids=65536, documents=DOCUMENTS):
    writer = ShardWriter(folder, "train", number, token_dtype(ids))
    starts = [writer.append(document) for document in documents]
    writer.close()
    return folder / writer.name, starts


def test_nanogpt_reads_it(data):
    """As nanoGPT's train.py does: a headerless memory map of uint16."""
    tokens = np.memmap(data.path / "train_00000.bin", dtype=np.uint16, mode="r")
    assert tokens.astype(np.int64).tolist() == data.stream("train").read(0, len(tokens)).tolist()
    assert len(tokens) == data.manifest["splits"]["train"]["tokens"]


@pytest.mark.parametrize("ids", [65536, 65537])
def test_datatrove_reads_it(tmp_path, ids):
    from datatrove.utils.dataset import DatatroveFileDataset

    path, _ = write(tmp_path, ids=ids)
    size = token_dtype(ids).itemsize
    assert size == (2 if ids == 65536 else 4)
    theirs = DatatroveFileDataset(str(path), seq_len=18, token_size=size, return_positions=True)
    whole = np.concatenate(DOCUMENTS)
    positions = np.concatenate([np.arange(len(document)) for document in DOCUMENTS])
    for n in range(3):
        assert theirs[n]["input_ids"].tolist() == whole[n * 19 : n * 19 + 19].tolist()
        inside = theirs[n]["positions"].tolist()[1:]
        expected = positions[n * 19 : n * 19 + 19].tolist()[1:]
        # A document that began in an earlier window starts at 0 again in datatrove's count.
        first = next((i for i, position in enumerate(expected) if position == 0), len(expected))
        assert inside[first:] == expected[first:]


def test_the_index_holds_where_each_document_ends(tmp_path):
    path, starts = write(tmp_path)
    ends = np.fromfile(f"{path}.index", "<u8")
    assert ends.tolist() == np.cumsum([len(document) for document in DOCUMENTS]).tolist()
    assert starts == [0, *ends[:-1].tolist()]


def test_several_shards_read_as_one_stream(tmp_path):
    paths = [write(tmp_path, n, documents=[np.arange(n * 10, n * 10 + n)])[0] for n in (3, 0, 5, 1)]
    whole = np.concatenate([np.fromfile(path, "<u2") for path in paths])
    stream = TokenStream(paths, np.dtype("<u2"))
    assert len(stream) == len(whole) == 9
    for start in range(10):
        for length in range(11):
            assert stream.read(start, length).tolist() == whole[start : start + length].tolist()


def folder(tmp_path):
    path, _ = write(tmp_path)
    tokenizer = {"vocab_size": 65536, "end_of_text": 0}
    write_manifest(tmp_path, {"wiki": "en", "dtype": "uint16", "tokenizer": tokenizer})
    return path, DataFolder(tmp_path)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    path, data = folder(tmp_path)
    data.verify()
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[3] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-2])
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"train_00000\.bin is missing or differs"):
        data.verify()


def test_which_folder_is_meant(tmp_path):
    datafolder = tmp_path / "dataset"
    with pytest.raises(DataError, match="wikigpt prepare"):
        find_data(str(datafolder), None)
    (datafolder / "en").mkdir(parents=True)
    folder(datafolder / "en")
    assert find_data(str(datafolder), None).name == "en"
    for leftover in (".en.partial", ".en.old"):  # of a kill while renaming
        (datafolder / leftover).mkdir()
        folder(datafolder / leftover)
    assert find_data(str(datafolder), None).name == "en"
    (datafolder / "fr").mkdir()
    folder(datafolder / "fr")
    with pytest.raises(DataError, match="en, fr"):
        find_data(str(datafolder), None)
    assert find_data(str(datafolder), "fr").name == find_data(str(datafolder), str(datafolder / "fr")).name == "fr"
    with pytest.raises(DataError, match="not a prepared"):
        find_data(str(datafolder), "pt")
