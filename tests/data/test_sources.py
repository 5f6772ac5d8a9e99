"""The bundled sample is there in three languages, tidy, and says where it comes from."""

import pytest

from wikigpt.data.article import Article
from wikigpt.data.filters import Filter
from wikigpt.data.sources import sample, tidy_lead
from wikigpt.errors import DataError


@pytest.mark.parametrize(("wiki", "articles"), [("en", 10033), ("fr", 9955), ("es", 6239)])
def test_the_sample_has_what_it_says(wiki, articles):
    source = sample(wiki)
    read = [article for _, article in source.read(source.files[0])]
    assert len(read) == articles
    assert all(a.title and a.text and a.url.startswith(f"https://{wiki}.wikipedia.org/wiki/") for a in read)
    assert not [a.title for a in read if "  " in a.text or "()" in a.text or a.text != a.text.strip()]


def test_another_language_is_answered_with_those_there_are():
    with pytest.raises(DataError, match="en, es, fr"):
        sample("pt")


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        ("African literature  is literature", "African literature is literature"),
        ("Jan Hus (), también (;  , x) fue", "Jan Hus, también (;, x) fue"),
        ("one. \ntwo\n\n three ", "one.\n\ntwo\n\nthree"),
        ("siglo\u00a0XX et 10\u202f000", "siglo\u00a0XX et 10\u202f000"),
        ("the .NET platform , and .", "the .NET platform, and."),
        ("né à Poitiers ; mort", "né à Poitiers ; mort"),
        ("Cafe\u0301", "Café"),
    ],
)
def test_holes_are_mended(text, tidy):
    assert tidy_lead(text) == tidy


def test_the_filter_says_why():
    def article(title, text):
        return Article(id="", revision="", title=title, url="", text=text)

    keep = Filter(wikipedia=True)
    long = "The Moon is Earth's only natural satellite, and round."
    assert keep.reason_to_drop(article("Moon", long)) is None
    assert keep.reason_to_drop(article("Luna", long.replace(" ", "  "))) == "duplicate"
    assert keep.reason_to_drop(article("Moon", long + " Other text.")) == "duplicate"
    assert keep.reason_to_drop(article("Sun", "The Sun is a star.")) == "short"
    assert keep.reason_to_drop(article("Mercury", "Mercury may refer to one of the following:")) == "disambiguation"
    own = Filter(wikipedia=False)  # text of one's own: a title may stand twice, and a colon at the end means nothing
    assert own.reason_to_drop(article("", long)) is None and own.reason_to_drop(article("", long)) == "duplicate"
    assert own.reason_to_drop(article("", "The following things are to be bought today:")) is None
