"""The server as an ASGI application: FastAPI with the contract's routes, and its state."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from .._version import __version__
from ..programs import ProgramPool
from . import timestamps
from .calls import Site, Threads
from .documentation import Action, document_of
from .generation import Generation
from .idempotency import Keys
from .metrics import Metrics
from .middleware import Middleware
from .routes import executions, health, missing, records, tasks
from .service import Service
from .settings import Settings
from .store import Store
from .trainer import Trainer
from .versions import Versions

logger = logging.getLogger("loopai.local")

PRUNE_SECONDS = 3600.0
"""Seconds between two removals of old executions and of old replies stored for idempotency keys."""

PATIENCE_SECONDS = 1.0
"""Seconds that a shutdown waits for running programs and, after stopping them, for their threads."""

SANDBOX_PROCESSES = 16
"""Programs that run at the same time, about 10 MB each; more than cores, so that one endless loop blocks nobody."""

NICENESS = 5
"""Niceness of programs and training: the server itself must respond while they compute."""

SANDBOX_SHARE = 4
"""How many of these may run the same program."""

EXPOSED = ["Idempotent-Replayed", "Link", "Location", "Retry-After", "X-Next-Cursor"]
"""Reply headers that pages of other sites may read."""

NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own looks at the environment in each request, which costs a tenth of a small one."""

DESCRIPTION = "Loopai's embedded server: tasks learnt from examples, run as small programs."


def create_app(settings: Settings) -> FastAPI:
    """Return the application. Its lifespan opens the data folder and starts workers.

    Entering the lifespan raises `ConfigurationError` if the data folder cannot be used.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        metrics = Metrics()
        store = Store(settings.data, settings.workers + 2)
        cores = os.cpu_count() or 1
        programs = ProgramPool(
            processes=max(SANDBOX_PROCESSES, 2 * cores), per_program=max(SANDBOX_SHARE, cores), niceness=NICENESS
        )
        trainer = Trainer(
            settings.training_seconds, settings.training_memory_mb, settings.language_model, settings.generator
        )
        service = Service(store, programs, trainer, metrics, settings)
        threads = Threads(settings.workers)
        versions = Versions(store, programs, trainer, settings, service.programs_changed)
        generation = Generation(versions, trainer)
        metrics.watch(store)
        site = Site(settings, store, service, metrics, Keys(store), versions, generation, threads)
        app.state.site = site
        pruning = asyncio.create_task(_prune(site))
        try:
            yield
        finally:
            pruning.cancel()
            with suppress(asyncio.CancelledError):
                await pruning
            # Batches start no more rows; programs that still run after a moment are stopped.
            service.ending = True
            await generation.close()
            threads.wait(PATIENCE_SECONDS)
            service.end()
            await site.combiner.close()
            threads.close(PATIENCE_SECONDS)
            store.close()

    # Interactive documentation that needs no network: its scripts come with the package.
    app = FastAPIOffline(
        title="Loopai",
        description=DESCRIPTION,
        version=__version__,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        lifespan=lifespan,
    )
    app.router.route_class = Action
    app.add_middleware(Middleware, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["DELETE", "GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=EXPOSED,
        )
    for area in (executions, tasks, records, health, missing):
        area.add(app)
    build = app.openapi
    app.openapi = lambda: document_of(app, build)  # type: ignore[method-assign]  # FastAPI's own way
    # FastAPI's own layers around each call add nothing to `Middleware`.
    app.build_middleware_stack = lambda: _layers(app)  # type: ignore[method-assign]  # Starlette's own way
    # Routes are tried in their order: the actions before the pages of the documentation.
    app.router.routes.sort(key=lambda route: not isinstance(route, Action))
    return app


def _layers(app: FastAPI) -> ASGIApp:
    pages = ExceptionMiddleware(AsyncExitStackMiddleware(app.router), {HTTPException: _empty})
    layers: ASGIApp = _Actions([route for route in app.routes if isinstance(route, Action)], pages)
    for layer, args, kwargs in reversed(app.user_middleware):
        layers = layer(layers, *args, **kwargs)
    return layers


class _Actions:
    """Calls the action of a path at once. Pages, and requests that no action takes, are passed to FastAPI."""

    def __init__(self, actions: Sequence[Action], pages: ASGIApp) -> None:
        self._actions = actions
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path"):
            for action in self._actions:
                found = action.path_regex.match(scope["path"])
                if found is not None and scope["method"] in (action.methods or ()):
                    scope["route"], scope["path_params"] = action, found.groupdict()
                    await action.handle(scope, receive, send)
                    return
        await self._pages(scope, receive, send)


async def _prune(site: Site) -> None:
    while True:
        try:
            await site.work(lambda: _remove_old(site))
        except sqlite3.Error:
            logger.warning("old rows could not be removed; next attempt in %d s", PRUNE_SECONDS, exc_info=True)
        await asyncio.sleep(PRUNE_SECONDS)


def _remove_old(site: Site) -> None:
    site.keys.prune()
    if site.settings.keep_days is not None:
        site.store.delete_executions(timestamps.days_ago(site.settings.keep_days))
    site.store.shrink()


async def _empty(request: Request, error: Exception) -> Response:
    """Reply with 404 or 405, without a body; 405 lists the methods of the path."""
    if not isinstance(error, HTTPException):
        raise error
    headers = {}
    if error.status_code == 405:
        verbs: set[str] = set()
        for route in request.app.routes:
            if route.matches(request.scope)[0] is not Match.NONE:
                verbs |= getattr(route, "methods", None) or set()
        headers["Allow"] = ", ".join(sorted(verbs))
    return Response(status_code=error.status_code, headers=headers)
