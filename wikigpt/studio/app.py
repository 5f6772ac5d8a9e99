"""The app: every room behind one door.

Engine ──> routers ──> mistakes in one line ──> Guard
"""

from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

import wikigpt
from wikigpt.errors import RunError, WikiGPTError
from wikigpt.studio import articles, board, completions, looks, playground, schema
from wikigpt.studio.engine import Engine
from wikigpt.studio.guard import Guard, problem
from wikigpt.studio.turns import AT_ONCE, WAITING, Busy

WEB = Path(__file__).with_name("web")


def make_app(engine: Engine, datafolder: str, token: str | None = None, hosts: Iterable[str] = ()) -> ASGIApp:
    """The studio as an ASGI application."""
    app = FastAPI(
        title="WikiGPT studio",
        version=wikigpt.__version__,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.include_router(completions.router(engine))
    for router in (board.router(engine), playground.router(engine, datafolder), looks.router(engine)):
        app.include_router(router)
    app.include_router(articles.router(engine, datafolder))

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["studio"])
    def health() -> dict[str, str]:
        """Whether it is there."""
        return {"status": "ok", "version": wikigpt.__version__}

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(WEB / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(schema.page(app.openapi()))

    app.mount("/web", StaticFiles(directory=WEB))
    _say_mistakes(app)
    return Guard(app, token, hosts)


def _say_mistakes(app: FastAPI) -> None:
    """Every mistake becomes one line, as OpenAI's clients expect it."""

    @app.exception_handler(WikiGPTError)
    def wrong(_: Request, error: WikiGPTError) -> Response:
        return problem(404 if isinstance(error, RunError) else 400, error.problem, error.fix)

    @app.exception_handler(RequestValidationError)
    def misread(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if request.method == "POST" and "json" not in request.headers.get("content-type", ""):
            return problem(400, "The request is no JSON.", "Send it with content-type: application/json.")
        where = next((str(part) for part in first["loc"] if part not in ("body", "query")), "")  # the field
        return problem(400, f"{where or 'The request'}: {first['msg']}.", "GET /docs lists what there is.")

    @app.exception_handler(Busy)
    def busy(*_: object) -> Response:
        what = f"{AT_ONCE} requests are worked on, and {WAITING} wait."
        answer = problem(429, what, "Try again soon.", "rate_limit_error")
        answer.headers["retry-after"] = "2"
        return answer

    @app.exception_handler(HTTPException)
    def none(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return problem(404, f"There is nothing at {request.url.path}.", "GET /docs lists what there is.")
        answer = problem(error.status_code, f"{error.detail}.", "GET /docs lists what there is.")
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    def left(*_: object) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    def ours(_: Request, error: Exception) -> Response:
        """A mistake of ours; its traceback is in the terminal."""
        return problem(
            500, f"This should not have happened ({type(error).__name__}).", "Please report it.", "server_error"
        )

    @app.exception_handler(OSError)
    def gone(_: Request, error: OSError) -> Response:
        """A checkpoint that a trainer has just removed, a disk that is not there."""
        logger.warning(f"studio: {type(error).__name__}: {error}")
        return problem(503, f"It cannot be read ({error.strerror or error}).", "Try again.", "server_error")
