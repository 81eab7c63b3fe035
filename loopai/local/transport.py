"""`LocalTransport`: the embedded server in this process, called as an ASGI application without a socket.

There is one server for each process and data folder, on a thread with its own event loop. The first request starts it,
and closing the last client ends it. A forked child gets its own server on the same folder.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .._core.wire import Answer, NoReply, Reply, Request
from ..exceptions import ConfigurationError
from ..language_model import LanguageModel
from .settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message, Scope

_ROOTS = ("/api/v1/", "/health", "/metrics")


class LocalTransport:
    """Sends requests to the embedded server of a data folder, for both clients, from any thread and event loop.

    `folder` is `None` for a private one, created at the first request, removed at the end, and shared by children
    forked in between. A folder has one server, and so one language model. Raises `ConfigurationError` at the first
    request if the folder cannot be used.
    """

    def __init__(self, folder: Path | None, language_model: LanguageModel | None = None) -> None:
        self._folder = folder
        self._language_model = language_model
        self._private = folder is None
        self._server: _Server | None = None
        self._closed = False

    def send(self, request: Request) -> Answer:
        """Send one request and wait for its reply, at most `request.timeout` seconds."""
        future = self._submit(request)
        try:
            return future.result(request.timeout)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            return _too_late(request, error)
        except BaseException:
            future.cancel()
            raise

    async def asend(self, request: Request) -> Answer:
        """Send one request and wait for its reply, at most `request.timeout` seconds."""
        future = self._submit(request)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), request.timeout)
        except asyncio.TimeoutError as error:
            return _too_late(request, error)

    def close(self) -> None:
        """Leave the server; it ends with its last client. Closing twice is not an error."""
        server = self._leave()
        if server is not None:
            server.ended.result()
            server.thread.join()

    async def aclose(self) -> None:
        """Leave the server; it ends with its last client. Closing twice is not an error."""
        server = self._leave()
        if server is not None:
            await asyncio.shield(asyncio.wrap_future(server.ended))
            # It only has to end.
            server.thread.join()

    def _submit(self, request: Request) -> concurrent.futures.Future[Answer]:
        with _registry.lock:
            if self._closed:
                raise RuntimeError("this client is closed: make a new one")
            server = self._server
            if server is None or server.process != os.getpid():
                own = self._folder is None
                if self._folder is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="loopai-"))
                server = self._server = _registry.enter(self._folder, own, self._language_model)
            return server.submit(request)

    def _leave(self) -> _Server | None:
        with _registry.lock:
            self._closed = True
            server, self._server = self._server, None
            if server is None or server.process != os.getpid():
                return None
            return server if _registry.leave(server) else None


class _Server:
    """The application on its thread. `ended` is done when the thread has finished."""

    def __init__(self, folder: Path, remove: bool, language_model: LanguageModel | None) -> None:
        self.folder = folder
        self.language_model = language_model
        self.process = os.getpid()
        self.clients = 0
        self.ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._remove = remove
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._open: asyncio.Future[FastAPI] = self._loop.create_future()
        self._under_way: set[asyncio.Task[Any]] = set()
        # A daemon: the interpreter waits for other threads before `atexit` can end this one.
        self.thread = threading.Thread(target=self._run, name="loopai-local", daemon=True)
        self.thread.start()

    def submit(self, request: Request) -> concurrent.futures.Future[Answer]:
        return asyncio.run_coroutine_threadsafe(self._tracked(self._answer(request)), self._loop)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            if self._remove:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.ended.set_result(None)

    async def _serve(self) -> None:
        # Imports that take half a second, only needed to run a server.
        from .app import create_app

        try:
            app = create_app(Settings(data=self.folder, language_model=self.language_model))
            async with app.router.lifespan_context(app):
                self._open.set_result(app)
                await self._stop.wait()
                await self._end_calls()
        except (ConfigurationError, ImportError) as error:
            self._open.set_exception(error)
            await self._stop.wait()
        await self._end_calls()

    async def _end_calls(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _tracked(self, answer: Coroutine[Any, Any, Answer]) -> Answer:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine that runs has one
        self._under_way.add(task)
        try:
            return await answer
        except asyncio.CancelledError:
            if self._stop.is_set():
                return NoReply(ConnectionError("the embedded server was closed"), arrived=True)
            raise
        finally:
            self._under_way.discard(task)

    async def _answer(self, request: Request) -> Answer:
        app = await asyncio.shield(self._open)
        status, parts = 0, []
        headers: dict[str, str] = {}
        unread = [{"type": "http.request", "body": request.content, "more_body": False}]

        async def receive() -> Message:
            if unread:
                return unread.pop()
            await asyncio.Event().wait()
            raise AssertionError("nothing sets this event")

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.update((name.decode("latin-1"), text.decode("latin-1")) for name, text in message["headers"])
            else:
                parts.append(message.get("body", b""))

        try:
            await app(_scope(request), receive, send)
        except Exception as error:  # noqa: BLE001  # a bug of the server, which could not reply
            return NoReply(error, arrived=True)
        return Reply(status, headers, b"".join(parts))


class _ServerRegistry:
    """The servers of this process, by folder."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._servers: dict[Path, _Server] = {}
        self._inherited: list[_Server] = []

    def enter(self, folder: Path, remove: bool, language_model: LanguageModel | None) -> _Server:
        server = self._servers.get(folder)
        if server is None:
            server = self._servers[folder] = _Server(folder, remove, language_model)
        elif server.language_model != language_model:
            raise ConfigurationError(
                f"the embedded server of {folder} runs in this process with other settings of its language model: "
                "pass the same to each of its clients, or close them first"
            )
        server.clients += 1
        return server

    def leave(self, server: _Server) -> bool:
        """Return whether that was the last client, so that the server ends."""
        server.clients -= 1
        if server.clients or self._servers.get(server.folder) is not server:
            return False
        del self._servers[server.folder]
        server.stop()
        return True

    def end_all(self) -> None:
        with self.lock:
            servers = list(self._servers.values())
            self._servers.clear()
        for server in servers:
            server.stop()
        for server in servers:
            server.thread.join()

    def forget(self) -> None:
        """After a fork, forget the parent's servers. Keep references: dropping one would close its database here."""
        self.lock = threading.Lock()
        self._inherited.extend(self._servers.values())
        self._servers.clear()


_registry = _ServerRegistry()
atexit.register(_registry.end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.forget)


def _scope(request: Request) -> Scope:
    url = urlsplit(request.url)
    # A base URL for other servers may have a path before these.
    start = max(0, next((at for at in map(url.path.find, _ROOTS) if at >= 0), 0))
    path = url.path[start:]
    headers = [(name.lower().encode(), text.encode("latin-1", "replace")) for name, text in request.headers.items()]
    headers.append((b"host", url.netloc.encode()))
    headers.append((b"content-length", str(len(request.content)).encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": ("localhost", url.port or 80),
    }


def _too_late(request: Request, error: BaseException) -> NoReply:
    seconds = "" if request.timeout is None else f" within {request.timeout:g} s"
    told = TimeoutError(f"the embedded server gave no reply{seconds}")
    told.__cause__ = error
    return NoReply(told, arrived=True, timed_out=True)
