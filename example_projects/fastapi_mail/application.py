"""The application: verdicts on e-mails, one at a time, by the file or in the background, and a page for people."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Cookie, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel

from loopai.contrib.fastapi import (
    LoopaiDep,
    LoopaiLifespan,
    RunFolder,
    batch_router,
    cancel_on_disconnect,
    health_router,
    install_error_handlers,
    runs_router,
)

EXAMPLE = Path(__file__).parents[1] / "data" / "emails.dev.jsonl.gz"


class Email(BaseModel):
    """The program's input: without `id` and `group`, which would reveal the label."""

    subject: str = ""
    body: str


class Verdict(BaseModel):
    label: Literal["spam", "ham"]
    latency_ms: float


def visitor(response: Response, visitor: Annotated[str | None, Cookie()] = None) -> str:
    """Identify the visitor: this page has no log-in, so each browser is a separate visitor."""
    if not visitor:
        visitor = secrets.token_urlsafe()
        response.set_cookie("visitor", visitor, max_age=30 * 86_400, httponly=True, samesite="strict")
    return visitor


def create_app(lifespan: LoopaiLifespan | None = None, folder: RunFolder | None = None) -> FastAPI:
    """The application, on the server that the environment names unless the lifespan says otherwise.

    Runs are stored in `folder`, by default `var/runs`.
    """
    # Its documentation comes from this server, not from elsewhere: /docs works offline.
    app = FastAPIOffline(
        title="Spam or not", summary="Verdicts of a program made from examples", lifespan=lifespan or LoopaiLifespan()
    )
    install_error_handlers(app)

    @app.post("/api/verdicts", tags=["verdicts"])
    @cancel_on_disconnect
    async def judge(email: Email, ai: LoopaiDep) -> Verdict:
        """Judge one e-mail."""
        result = await ai.execute("spam", email)
        return Verdict(label=result.output["label"], latency_ms=result.latency_ms)

    app.include_router(
        batch_router("spam", input=Email, keep=["id", "subject", "label"], expect="label", chunk_size=50),
        prefix="/api",
    )
    app.include_router(
        runs_router("spam", folder or RunFolder("var/runs"), input=Email, expect="label", owner=visitor), prefix="/api"
    )
    app.include_router(health_router())

    @app.get("/api/example", include_in_schema=False)
    async def example() -> FileResponse:
        return FileResponse(EXAMPLE, media_type="application/gzip")

    app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
    return app


app = create_app()
