"""The bundled sample is there in three languages, tidy, and says where it comes from."""

import pytest

from wikigpt.data.article import Article, Dropped
from wikigpt.data.filters import Duplicates, keys, reason_to_drop
from wikigpt.data.sources import sample, tidy_lead
from wikigpt.errors import DataError


@pytest.mark.parametrize(("wiki", "articles"), [("en", 10033), ("fr", 9955), ("es", 6239)])
def test_the_sample_has_what_it_says(wiki, articles):
    source = sample(wiki)
    read = [article for article in source if isinstance(article, Article) and not article.id]
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


def test_the_filters_say_why():
    def reason(article, wikipedia=True, held_out=frozenset()):
        dropped = reason_to_drop(article, wikipedia, held_out)
        return dropped or (None if duplicates.is_new(keys(article, wikipedia)) else "duplicate")

    def article(title, text):
        return Article(id="", revision="", title=title, url="", text=text)

    duplicates = Duplicates()
    long = "The Moon is Earth's only natural satellite, and round."
    assert reason(article("Moon", long)) is None
    assert reason(article("Luna", long.replace(" ", "  "))) == "duplicate"
    assert reason(article("Moon", long + " Other text.")) == "duplicate"
    assert reason(article("Sun", "The Sun is a star.")) == "short"
    assert reason(article("Mercury", "Mercury may refer to one of the following:")) == "disambiguation"
    assert reason(article("moon_landing", long + " They landed."), held_out=frozenset({"Moon landing"})) == "held out"
    duplicates = Duplicates()  # text of one's own: a title may stand twice, and a colon at the end means nothing
    assert reason(article("", long), False) is None and reason(article("", long), False) == "duplicate"
    assert reason(article("", "The following things are to be bought today:"), False) is None


def test_whole_articles_come_before_the_leads_that_they_replace():
    found = list(sample("en"))
    whole = [article for article in found if isinstance(article, Article) and article.id]
    assert len(whole) == 98 and found.index(whole[-1]) < 10239 - 10033
    assert {each.reason for each in found if isinstance(each, Dropped)} == {
        "redirect",
        "disambiguation",
        "other namespace",
    }
    titles = {article.title for article in whole}
    assert sum(article.title in titles for article in found if isinstance(article, Article)) == 98 + 46
