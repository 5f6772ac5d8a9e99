"""Who may ask: this server's own pages and programs on this machine; with a token, whoever knows it."""

import pytest
from starlette.testclient import TestClient

from wikigpt.studio.app import make_app
from wikigpt.studio.guard import BODY, POLICY, is_loopback

TOKEN = "abcdefghij0123456789"
ASKED = {"run": "g", "prompt": "Luna", "max_gen": 1}


@pytest.fixture
def guarded(engine, data) -> TestClient:
    app = make_app(engine, str(data.path.parent), TOKEN)
    return TestClient(app, base_url="http://192.168.1.7:8000", follow_redirects=False)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "127.0.0.1", "[::1]:8000", "[::1]", "LOCALHOST"])
def test_it_answers_to_this_machine_s_names(client, host):
    assert client.get("/healthz", headers={"host": host}).json()["status"] == "ok"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.8:8000", "", "127.0.0.1.nip.io", "[::1"],
)
def test_a_name_that_someone_else_points_here_is_refused(client, host):
    """DNS rebinding: a page of evil.example whose name suddenly means 127.0.0.1."""
    for path in ("/", "/api/runs", "/v1/models", "/web/main.js", "/healthz"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 403 and "error" in answer.json()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},  # another server on this machine
        {"origin": "http://localhost:8000.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_another_page_may_not_ask(client, headers):
    assert client.get("/api/runs", headers=headers).status_code == 403
    assert client.post("/api/generate", json=ASKED, headers=headers).status_code == 403


def test_a_link_elsewhere_may_lead_here_and_a_form_may_not(client):
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=visit).status_code == 200
    assert client.post("/api/title", json={"run": "g"}, headers=visit).status_code == 403


@pytest.mark.parametrize(
    "path", ["/api/data/es", "/api/runs/g/architecture", "/api/runs", "/v1/models", "/web/main.js"]
)
def test_a_link_leads_to_pages_only_and_no_frame_to_any(client, path):
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get(path, headers=visit).status_code == 403
    assert client.get("/", headers=visit | {"sec-fetch-dest": "iframe"}).status_code == 403
    assert client.get("/docs", headers=visit).status_code == 200


def test_its_own_page_and_programs_may(client):
    own = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/api/generate", json=ASKED, headers=own).status_code == 200
    assert client.post("/api/generate", json=ASKED).status_code == 200


def test_nothing_is_shared_with_other_pages(client):
    """No CORS: a preflight gets nothing that would allow anything."""
    ask = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for answer in (client.options("/api/generate", headers=ask), client.get("/api/runs")):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/web/main.js", "/api/runs", "/nothing", "/docs", "/api/runs/none", "/healthz"])
def test_every_answer_says_what_a_browser_may_do(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"] == POLICY and "unsafe" not in POLICY and "*" not in POLICY
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY" and headers["cross-origin-resource-policy"] == "same-origin"


def test_a_body_has_a_limit(client, served):
    import http.client

    long = {"run": "g", "prompt": "a" * BODY}
    answer = client.post("/api/generate", json=long)
    assert answer.status_code == 413 and "error" in answer.json(), answer.text
    there = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    pieces = (b"a" * 4096 for _ in range(2 * BODY // 4096))  # does not say how long it is
    there.request("POST", "/api/generate", pieces, {"content-type": "application/json"}, encode_chunked=True)
    assert there.getresponse().status == 413


def test_a_form_from_elsewhere_is_no_question(client):
    """text/plain is what a form of another page could send without being asked first."""
    answer = client.post("/api/generate", content='{"run": "g"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 400


def test_without_the_token_nobody_gets_anything(guarded):
    for path in ("/", "/api/runs", "/v1/models", "/docs", "/openapi.json", "/web/main.js"):
        answer = guarded.get(path)
        assert answer.status_code == 401 and TOKEN not in answer.text
    wrong = {"authorization": "Bearer wrong", "cookie": "wikigpt_studio=wrong"}
    assert guarded.get("/api/runs", headers=wrong).status_code == 401
    assert guarded.get("/api/runs?token=wrong").status_code == 401
    assert guarded.post("/v1/completions", json={"model": "g"}).status_code == 401
    assert (
        guarded.post(f"/v1/completions?token={TOKEN}", json={"model": "g"}).status_code == 401
    )  # in an address it would leak
    assert guarded.get("/healthz").status_code == 200


def test_a_program_brings_it_along(guarded):
    for word in ("Bearer", "bearer"):
        assert guarded.get("/v1/models", headers={"authorization": f"{word} {TOKEN}"}).status_code == 200
    assert guarded.get("/v1/models", headers={"authorization": TOKEN}).status_code == 401


def test_a_browser_brings_it_once(guarded):
    """The address that was printed sets a cookie that no script and no other page gets, and the token leaves the address."""
    answer = guarded.get(f"/?token={TOKEN}&a=b&c=")
    assert answer.status_code == 303 and answer.headers["location"] == "/?a=b&c="
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower() and "samesite=lax" in cookie.lower()
    assert cookie.startswith("wikigpt_studio_8000=") and TOKEN not in cookie
    assert guarded.get("/").status_code == 200
    assert guarded.get("/api/runs").status_code == 200


def test_odd_cookies_of_others_hide_ours_from_nobody(guarded):
    proof = guarded.get(f"/?token={TOKEN}").headers["set-cookie"].split(";")[0]
    for odd in ("foo; ", 'a={"x":1}; ', "x=a,b [c]; ", "path=1; "):
        assert guarded.get("/api/runs", headers={"cookie": odd + proof}).status_code == 200


def test_a_cookie_of_another_port_is_none_of_ours(guarded):
    guarded.get(f"/?token={TOKEN}")
    assert guarded.get("/api/runs", headers={"host": "192.168.1.7:8001"}).status_code == 401


def test_any_address_can_be_opened(guarded):
    for host in ("[::1]", "192.168.1.7", "[::1]:8000"):
        assert guarded.get(f"/?token={TOKEN}", headers={"host": host}).status_code in (200, 303)


def test_the_way_back_leads_nowhere_else(guarded):
    answer = guarded.get(f"http://192.168.1.7:8000//evil.example/?token={TOKEN}")
    assert not answer.headers["location"].startswith(("//", "http"))


def test_with_a_token_it_answers_to_numbers_and_this_machine_s_name(guarded):
    own = {"authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/api/runs", headers=own | {"host": "10.1.2.3:8000"}).status_code == 200
    assert guarded.get("/api/runs", headers=own | {"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "host, there",
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("me", False)],
)
def test_which_hosts_only_this_machine_reaches(host, there):
    assert is_loopback(host) is there
