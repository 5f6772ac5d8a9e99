"""Who may ask, and how much: the outermost part of the app.

request ──> Host ──> Origin ──> token ──> size ──> app ──> headers that keep a browser from doing anything else

A page of a stranger can make a browser send requests to this machine, also under a name of its own (DNS rebinding): so the
name that a request is for, and the page that it comes from, must be this server's. There is no CORS, and what asks a model
is never a GET.
"""

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import parse_qs, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = 256 * 1024  # bytes of a request
COOKIE = "wikigpt_studio"  # and the port: a browser gives a cookie to all servers of a host
OPEN = ("/healthz",)  # for whoever only asks whether it is there
VISITED = ("/", "/docs")  # where links of other pages may lead
PATIENCE = 20.0  # seconds that the next part of a request may take
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host that a server listens on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets through what comes from this server's own pages, or from a program, with the token where there is one. `hosts`:
    names beside this machine's own under which it may be asked."""

    def __init__(self, app: ASGIApp, token: str | None = None, hosts: Iterable[str] = ()) -> None:
        self.app, self.token = RequestBodyLimitMiddleware(app, BODY), token
        self.names = {"localhost", *(host.lower() for host in hosts)}
        if token is not None:  # others ask too: by this machine's name, or its number
            self.names |= {
                socket.gethostname().lower(),
                socket.getfqdn().lower(),
                f"{socket.gethostname().lower()}.local",
            }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        refused = self._refuse(scope)
        if refused is not None:
            return await _with_headers(refused)(scope, receive, send)
        return await _with_headers(self.app)(scope, _soon(receive), send)

    def _refuse(self, scope: Scope) -> Response | None:
        """The answer to a request that is not for us; None where it is."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return problem(403, f"There is no studio called {host!r} here.", "Open the address that it printed.")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
        visit = visit and scope["method"] in ("GET", "HEAD") and scope["path"] in VISITED
        stranger = origin is not None and origin.split("://")[-1].lower() != host.lower()
        if stranger or (site not in ("same-origin", "none") and not visit):
            return problem(403, "Another page asked.", "Only the studio's own pages may ask it.")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > BODY:
            return problem(413, f"A request may have {BODY // 1024} KiB.", "Send less.")
        if self.token is not None and scope["path"] not in OPEN:
            return self._check_token(scope, headers)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower()
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self.token is not None

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """A program brings the token as "Authorization: Bearer", a browser once as ?token= and then as a cookie."""
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is(self.token, bearer.strip()):
            return None
        port = headers["host"].rpartition(":")[2]
        name, proof = f"{COOKIE}_{port if port.isdigit() else 80}", self._proof()
        if self._is(proof, cookie_parser(headers.get("cookie", "")).get(name, "")):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and self._is(self.token, given.pop("token", [""])[0]):
            rest = urlencode(given, doseq=True)
            path = "/" + quote(scope["path"].lstrip("/"), safe="/")  # "//name" would lead to another server
            answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(name, proof, httponly=True, samesite="lax", secure=scope["scheme"] == "https")
            return answer
        return problem(401, "The studio asks for its token.", "Open the whole address that it printed, with ?token=.")

    def _proof(self) -> str:
        """What a browser keeps: good for this, and no token for whoever else gets to see it."""
        return hmac.digest(str(self.token).encode(), b"cookie", "sha256").hex()

    @staticmethod
    def _is(secret: str | None, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), str(secret).encode())


def problem(status: int, what: str, fix: str, kind: str = "invalid_request_error") -> JSONResponse:
    """A mistake in one line, with the names that OpenAI's clients look for."""
    return JSONResponse({"error": {"message": f"{what} {fix}", "type": kind, "param": None, "code": status}}, status)


def _soon(receive: Receive) -> Receive:
    """Each part of a request within PATIENCE. When all is here, what comes next is the end of the connection."""
    whole = False

    async def part() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        message = await asyncio.wait_for(receive(), PATIENCE)
        whole = not message.get("more_body", False)
        return message

    return part


def _with_headers(app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (HEADERS | {"cache-control": "no-store"}).items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, sending)

    return wrapped
