"""What of a text a run has been trained on, as far as the manifests and article indexes of its data say.

titles, page ids ──> articles.parquet of all that it was trained on ──> those in the training split
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from loguru import logger

from wikigpt.config import HUB, RunConfig
from wikigpt.data.filters import plain_title
from wikigpt.data.shards import DataFolder, find_data
from wikigpt.errors import DataError, RunError
from wikigpt.evaluate.articles import Text
from wikigpt.runs import read_run

TOLD = "--with_trained_on"


def training_data(config: RunConfig, datafolder: str) -> list[DataFolder]:
    """The data folders that a run was trained on, and those of the runs whose weights it began with. Of one that is no
    longer here nothing can be said, and that is said."""
    folders, seen = list[DataFolder](), set[str]()
    while True:
        for part in config.data.split(","):
            name = part.rpartition(":")[0] if "," in config.data else part
            try:
                found = [folder for folder, _ in find_data(datafolder, name).parts]
            except DataError:
                logger.warning(f"{name} is not here: what of it was trained on cannot be told")
                continue
            folders += found
            known = {config.data_hash, *(source.get("manifest_sha256") for source in config.source)}
            if any(folder.hash not in known for folder in found):
                logger.warning(f"{name} was prepared anew since: what was trained on is told by it as it is now")
        begun = config.init_from
        if begun is None or begun in seen:
            return folders
        seen.add(begun)
        try:
            config = read_run(Path(begun)).config
        except RunError:
            where = begun.removeprefix(HUB)
            logger.warning(f"its weights began as those of {where}: what these were trained on cannot be told here")
            return folders


def marked(texts: Sequence[Text], folders: Sequence[DataFolder]) -> list[Text]:
    """The same articles, marked where they stand in the training split of another folder than their own (in which no
    article is in two splits): under their page id if it is of the same wiki, under their title if it may be."""
    seen = set[int]()
    for folder in folders:
        other = [n for n, text in enumerate(texts) if text.data.hash != folder.hash]
        same = [n for n in other if texts[n].data.wiki == folder.wiki]
        maybe = [n for n in other if not (texts[n].data.wiki and folder.wiki) or texts[n].data.wiki == folder.wiki]
        pages = set(_in_training(folder, "id", {texts[n].row["id"] for n in same} - {""}))
        titles = trained_titles([folder], [texts[n].row["title"] for n in maybe])
        seen |= {n for n in same if texts[n].row["id"] in pages} | {n for n in maybe if texts[n].row["title"] in titles}
    return [replace(text, trained_on=True) if n in seen else text for n, text in enumerate(texts)]


def trained_titles(folders: Iterable[DataFolder], titles: Iterable[str]) -> set[str]:
    """Which of some titles are of articles in the training split of a folder."""
    forms = {form: title for title in titles if title for form in (title, plain_title(title))}
    return {forms[form] for folder in folders for form in _in_training(folder, "title", set(forms))}


def _in_training(folder: DataFolder, column: str, values: set[str]) -> list[str]:
    """Those of some titles or page ids that training articles have."""
    if not values:
        return []
    filters = [("split", "=", "train"), (column, "in", sorted(values))]
    return list(pq.read_table(folder.path / "articles.parquet", columns=[column], filters=filters)[column].to_pylist())


def refuse(what: str, trained: set[str], number: int, told: bool) -> None:
    """Raises DataError for a benchmark that is made of training articles, unless it is asked for all the same."""
    if not trained:
        return
    examples = ", ".join(sorted(trained)[:3]) + (", ..." if len(trained) > 3 else "")
    said = f"{len(trained):,} of the {number:,} articles in {what} are among those that it was trained on ({examples})."
    if not told:
        fix = f"Prepare without them (--hold_out FILE with their titles), or measure all the same with {TOLD}."
        raise DataError(said, fix)
    logger.warning(said)
