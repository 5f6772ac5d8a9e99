"""The page "Data" finds every article, and shows its tokens as they are."""

import pyarrow.parquet as pq
import pytest

from wikigpt.data.lookup import look_up
from wikigpt.data.wikitext import clean_wikitext
from wikigpt.data.wikitext.site import site_of


def articles(client, **asked) -> dict:
    answer = client.get("/api/data/es/articles", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_all_articles_page_by_page(client, data):
    rows = pq.read_table(data.path / "articles.parquet").to_pylist()
    titles, offset = [], 0
    while len(titles) < 120:
        found = articles(client, offset=offset)
        titles += [row["title"] for row in found["articles"]]
        offset += found["page"]
    assert found["found"] == len(rows) and titles[:120] == [row["title"] for row in rows][:120]
    assert articles(client, offset=10**9)["articles"] == []
    held_out = articles(client, split="test")
    assert held_out["found"] == data.manifest["splits"]["test"]["articles"]
    assert {row["split"] for row in held_out["articles"]} == {"test"}


def test_searching_takes_case_and_signs_as_they_come(client, data):
    rows = pq.read_table(data.path / "articles.parquet").to_pylist()
    title = next(row["title"] for row in rows if len(row["title"]) > 5)
    start = title[:4].lower()
    found = [row["title"].lower() for row in articles(client, query=f" {start.upper()} ")["articles"]]
    assert all(start in one for one in found)
    assert found == sorted(found, key=lambda one: (one != start, not one.startswith(start)))
    assert articles(client, query=title)["articles"][0]["title"] == title
    for signs in (".*", "(", "%", "'; drop", "\\"):
        assert all(signs in row["title"] for row in articles(client, query=signs)["articles"])
    assert articles(client, query="no title is called so")["found"] == 0


def test_an_article_with_its_tokens(client, data, engine):
    title = pq.read_table(data.path / "articles.parquet").to_pylist()[3]["title"]
    found = client.get("/api/data/es/article", params={"what": title}).json()
    ours = look_up(data, title)
    assert [token for token, _ in found["tokens"]] == ours.ids[:-1].tolist() and found["row"] == ours.row
    text = "".join(piece for _, piece in found["tokens"])
    assert text.startswith(f"# {title}\n\n") and found["all_tokens"] == len(ours.ids) - 1
    place = client.get("/api/data/es/article", params={"what": "train:700"}).json()
    assert place["marked"] is not None and place["row"]["split"] == "train"
    assert client.get("/api/data/es/article", params={"what": "no such"}).status_code == 400


def test_what_was_left_out_and_what_the_cleaner_did(client, data):
    found = client.get("/api/data/es").json()
    assert found["stats"]["splits"] == data.manifest["splits"] and found["dropped"] == data.manifest["dropped"]
    assert found["source"]["licence"] == data.manifest["source"]["licence"] and found["stats"]["histogram"]


def test_the_cleaner_at_work(client):
    wikitext = "'''Luna''' es el [[satélite natural|satélite]] de la Tierra.<ref>Un libro</ref> {{nobots}}"
    text = client.post("/api/clean", json={"wikitext": wikitext, "wiki": "es"}).json()["text"]
    assert text == clean_wikitext(wikitext, "", site_of("eswiki")) == "Luna es el satélite de la Tierra."
    assert client.post("/api/clean", json={"wikitext": "a", "wiki": "../x"}).status_code == 400
    assert client.post("/api/clean", json={"wikitext": "a" * 20_001}).status_code == 400


@pytest.mark.parametrize("name", ["..", "../es", "%2e%2e%2fes", "none", ".hidden", "es%2f.."])
def test_a_folder_is_never_a_path(client, name):
    for rest in ("", "/articles", "/article?what=a"):
        assert client.get(f"/api/data/{name}{rest}").status_code in (400, 404)
