"""Tests as users write them for their applications, run by pytest in a process of its own with the plugin."""

from __future__ import annotations

import sys
import textwrap

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from loopai.contrib.fastapi import LoopaiDep, get_loopai
from loopai.contrib.fastapi.testing import override_loopai

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

SHOP = """
from fastapi import FastAPI
from loopai.contrib.fastapi import LoopaiDep, SyncLoopaiDep, install_error_handlers, loopai_lifespan

app = FastAPI(lifespan=loopai_lifespan)
install_error_handlers(app)

@app.post("/check")
async def check(text: str, ai: LoopaiDep):
    return (await ai.execute("spam", {"text": text})).output

@app.post("/check-in-a-thread")
def check_in_a_thread(text: str, ai: SyncLoopaiDep):
    return ai.execute("spam", {"text": text}).output
"""


# Starlette before 0.40 imports python-multipart by its former name.
INI = """
[pytest]
addopts = -p no:cacheprovider
filterwarnings =
    error
    ignore:Please use .import python_multipart:PendingDeprecationWarning
pythonpath = .
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Runs a file of tests beside the application `shop`, with more plugins if wanted."""
    # The user's run is a project of its own: none of our options, coverage, settings or other plugins.
    for name in ("PYTEST_ADDOPTS", "DJANGO_SETTINGS_MODULE", "COV_CORE_SOURCE", "COVERAGE_PROCESS_START"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makeini(INI)
        pytester.makepyfile(shop=SHOP, test_of_the_user=textwrap.dedent(source))
        return pytester.runpytest_subprocess("-p", "loopai", *arguments)

    return run


def test_with_the_test_client(run) -> None:
    """Synchronous tests: the fake answers for both kinds of route, with or without the lifespan."""
    run(
        """
        import pytest
        from fastapi.testclient import TestClient
        from loopai.contrib.fastapi.testing import override_loopai
        from shop import app

        @pytest.fixture
        def client(loopai_fake):
            with override_loopai(app, loopai_fake), TestClient(app) as client:
                yield client

        @pytest.mark.parametrize("path", ["/check", "/check-in-a-thread"])
        def test_spam(client, loopai_fake, path):
            loopai_fake.task("spam").returns({"label": "spam"})
            assert client.post(path, params={"text": "prize"}).json() == {"label": "spam"}
            assert loopai_fake.task("spam").inputs == [{"text": "prize"}]

        def test_rationed(client, loopai_fake):
            loopai_fake.task("spam").returns({"label": "spam"})
            loopai_fake.rate_limits(retry_after=7)
            reply = client.post("/check", params={"text": "prize"})
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")

        def test_without_the_lifespan(loopai_fake):
            loopai_fake.task("spam").returns("ok")
            with override_loopai(app, loopai_fake):
                assert TestClient(app).post("/check", params={"text": "a"}).json() == "ok"
        """
    ).assert_outcomes(passed=4)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_with_httpx_and_pytest_asyncio(run, mode: str) -> None:
    """Asynchronous tests: `running` runs the lifespan, which httpx does not."""
    run(
        """
        import asyncio
        import httpx
        import pytest
        import pytest_asyncio
        from loopai.contrib.fastapi.testing import override_loopai, running
        from shop import app

        @pytest_asyncio.fixture
        async def client(loopai_fake):
            with override_loopai(app, loopai_fake):
                async with running(app) as served:
                    transport = httpx.ASGITransport(served)
                    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                        yield client

        @pytest.mark.asyncio
        async def test_many(client, loopai_fake):
            loopai_fake.task("spam").computes(lambda mail: mail["text"].upper())
            replies = await asyncio.gather(*(client.post("/check", params={"text": text}) for text in "abc"))
            assert [reply.json() for reply in replies] == ["A", "B", "C"]

        @pytest.mark.asyncio
        async def test_without_the_lifespan(loopai_fake):
            loopai_fake.task("spam").returns("ok")
            with override_loopai(app, loopai_fake):
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
                    assert (await client.post("/check-in-a-thread", params={"text": "a"})).json() == "ok"
        """,
        "-p",
        "pytest_asyncio.plugin",
        f"--asyncio-mode={mode}",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    ).assert_outcomes(passed=2)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the embedded server needs Python 3.10")
def test_with_the_embedded_server(run) -> None:
    """The whole way, programs included: `loopai_server` is one server for the whole run."""
    pytest.importorskip("pydantic_monty", reason="the embedded server runs programs in it")
    run(
        """
        import pytest
        from fastapi.testclient import TestClient
        from loopai import SyncLoopaiClient
        from shop import app

        @pytest.fixture
        def client(loopai_server, monkeypatch):
            with SyncLoopaiClient(loopai_server.base_url) as loopai:
                task = loopai.create_task("spam", "Spam?", {"type": "object"}, {"type": "object"})
                loopai.push_program(task.id, "def main(mail):\\n    return {'label': 'spam'}\\n")
            monkeypatch.setenv("LOOPAI_BASE_URL", loopai_server.base_url)
            monkeypatch.setenv("LOOPAI_TASKS", f"spam={task.id}")
            with TestClient(app) as client:
                yield client

        def test_spam(client):
            assert client.post("/check", params={"text": "prize"}).json() == {"label": "spam"}
            assert client.post("/check-in-a-thread", params={"text": "prize"}).json() == {"label": "spam"}
        """
    ).assert_outcomes(passed=1)


def test_a_forgotten_answer_fails_the_user_s_test_and_is_no_problem_document(run) -> None:
    """`NotProgrammed` is for the test, not for the application's handlers."""
    result = run(
        """
        from fastapi.testclient import TestClient
        from loopai.contrib.fastapi.testing import override_loopai
        from shop import app

        def test_forgotten(loopai_fake):
            with override_loopai(app, loopai_fake):
                TestClient(app).post("/check", params={"text": "a"})
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NotProgrammed*spam*"])


def test_overrides_are_put_back(loopai_fake) -> None:
    """Those of the user's own that were there before, and those made meanwhile stay."""
    app = FastAPI()

    async def mine(): ...

    async def other(): ...

    @app.get("/")
    async def route(ai: LoopaiDep): ...

    app.dependency_overrides[get_loopai] = mine
    with override_loopai(app, loopai_fake):
        assert app.dependency_overrides[get_loopai] is not mine
        assert TestClient(app).get("/").status_code == 200
        app.dependency_overrides[other] = mine
    assert app.dependency_overrides == {get_loopai: mine, other: mine}
