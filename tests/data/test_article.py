"""The split of an article is a pure function of its key, and the key of what stays the same between dumps."""

from collections import Counter

import pytest

from wikigpt.data.article import Article, document, prompt, split_key, split_of


def article(**changes):
    return Article(**{"id": "", "revision": "", "title": "Moon", "url": "", "text": "The Moon is round.", **changes})


def test_a_document_begins_with_its_prompt():
    assert document(article()) == "# Moon\n\nThe Moon is round."
    assert document(article()).startswith(prompt("Moon"))


def test_the_key_is_the_page_where_there_is_an_id():
    old, new = article(id="19331", revision="1"), article(id="19331", revision="2", title="Luna", text="other")
    assert split_key(old, "en", "dump") == split_key(new, "en", "hf") == "en|19331"


def test_the_key_is_the_normalised_title_where_there_is_none():
    assert split_key(article(title="Café  au_lait"), "fr", "sample") == "sample|Café au lait"
    assert split_key(article(title="Cafe\u0301 au lait"), "fr", "sample") == "sample|Café au lait"


@pytest.mark.parametrize(
    ("key", "split"), [("en|1", "train"), ("en|66", "validation"), ("en|5", "test"), ("sample|Moon", "train")]
)
def test_the_split_never_changes(key, split):
    """Recorded once: a change here would put articles that models were trained on into their test."""
    assert split_of(key, 0.01) == split


def test_the_shares_are_as_stated():
    counts = Counter(split_of(f"en|{number}", 0.01) for number in range(100_000))
    assert counts["validation"] == pytest.approx(1000, abs=120)
    assert counts["test"] == pytest.approx(1000, abs=120)


def test_another_salt_is_another_split():
    keys = [f"en|{number}" for number in range(2000)]
    assert [split_of(key, 0.1) for key in keys] != [split_of(key, 0.1, salt="other") for key in keys]
