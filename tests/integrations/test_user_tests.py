"""A user's own tests, run by pytest in a process of its own with the plugin as it is installed."""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]

INI = """
[pytest]
addopts = -p no:cacheprovider
filterwarnings = error
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Runs a file of tests, with more arguments for pytest if wanted."""
    # The user's run is a project of its own: none of our options, coverage, settings or other plugins.
    for name in ("PYTEST_ADDOPTS", "DJANGO_SETTINGS_MODULE", "COV_CORE_SOURCE", "COVERAGE_PROCESS_START"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makeini(INI)
        pytester.makepyfile(test_of_the_user=textwrap.dedent(source))
        return pytester.runpytest_subprocess("-p", "loopai", *arguments)

    return run


def test_the_example_in_the_plugin_s_docs_passes(run) -> None:
    """What the plugin's docstring shows can be copied into a test file."""
    plugin = importlib.import_module("pytest_loopai")
    example = inspect.getdoc(plugin).partition("::\n")[2]
    run(example).assert_outcomes(passed=1)


def test_a_synchronous_test_programs_the_fake_and_gets_its_client(run) -> None:
    """`loopai_fake` and `loopai_client` belong together, and are new for each test."""
    run(
        """
        import pytest
        from loopai import RateLimitException

        def test_programmed(loopai_client, loopai_fake):
            loopai_fake.task("spam").computes(lambda mail: {"label": "spam" if "prize" in mail["text"] else "ham"})
            rows = loopai_client.batch_execute("spam", [{"text": "a prize"}, {"text": "lunch"}]).results
            assert [row.output["label"] for row in rows] == ["spam", "ham"]
            assert loopai_fake.task("spam").call_count == 2

        def test_new_for_each_test(loopai_fake):
            assert loopai_fake.calls == []

        def test_failures_take_no_time(loopai_fake, loopai_client):
            loopai_fake.task("spam").returns("ok")
            loopai_fake.rate_limits(retry_after=100)
            with pytest.raises(RateLimitException):
                loopai_client.execute("spam", {})
            assert len(loopai_fake.requests) == 1 + 4
        """
    ).assert_outcomes(passed=3)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_an_asynchronous_test_with_pytest_asyncio(run, mode: str) -> None:
    """The asynchronous client is a plain fixture, and works in either mode of pytest-asyncio."""
    run(
        """
        import pytest

        @pytest.mark.asyncio
        async def test_async(loopai_fake, loopai_async_client):
            loopai_fake.task("spam").returns({"label": "spam"})
            async with loopai_async_client as client:
                assert (await client.execute("spam", {})).output == {"label": "spam"}

        @pytest.mark.asyncio
        async def test_async_in_another_loop(loopai_fake, loopai_async_client):
            loopai_fake.task("spam").fails("no")
            batch = await loopai_async_client.batch_execute("spam", [1])
            assert batch.failure_count == 1
        """,
        "-p",
        "pytest_asyncio.plugin",
        f"--asyncio-mode={mode}",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    ).assert_outcomes(passed=2)


def test_an_asynchronous_test_with_anyio(run) -> None:
    """The same fixture serves the plugin that comes with anyio."""
    run(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_async(loopai_fake, loopai_async_client):
            loopai_fake.task("spam").returns({"label": "spam"})
            assert (await loopai_async_client.execute("spam", {})).output == {"label": "spam"}
        """,
        "-p",
        "anyio.pytest_plugin",
    ).assert_outcomes(passed=1)


def test_a_forgotten_answer_fails_the_user_s_test_and_says_what_to_write(run) -> None:
    """Even code that handles every `LoopaiException` does not hide it."""
    result = run(
        """
        from loopai import LoopaiException

        def label(client):
            try:
                return client.execute("ham", {}).output
            except LoopaiException:
                return "unknown"

        def test_forgotten(loopai_fake, loopai_client):
            loopai_fake.task("ham")
            label(loopai_client)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NotProgrammed: task 'ham' was run*write fake.task('ham').returns(*"])


def test_pauses_of_the_user_s_own_clients_can_be_switched_off(run) -> None:
    """Without pauses ten attempts on a fake that limits for minutes are over at once."""
    run(
        """
        import pytest
        from loopai import RateLimitException, SyncLoopaiClient

        def test_quick(loopai_fake, loopai_no_waits):
            loopai_fake.rate_limits(retry_after=60)
            with SyncLoopaiClient(transport=loopai_fake, max_retries=9) as client:
                assert client.config.sources["retry_waits"] == "LOOPAI_RETRY_WAITS"
                with pytest.raises(RateLimitException):
                    client.get_health()
            assert len(loopai_fake.requests) == 10

        def test_switched_on_again_afterwards(loopai_fake):
            with SyncLoopaiClient(transport=loopai_fake) as client:
                assert client.config.retry_waits
        """
    ).assert_outcomes(passed=2)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 10), reason="the embedded server's sandbox needs Python 3.10")
def test_the_embedded_server_serves_a_whole_run(run) -> None:
    """One server over HTTP for all tests of the run, with the real programs in its sandbox."""
    run(
        """
        from loopai import SyncLoopaiClient

        addresses = set()

        def test_one(loopai_server):
            addresses.add(loopai_server.base_url)
            with SyncLoopaiClient(loopai_server.base_url) as client:
                task = client.create_task("double", "Doubles", {}, {})
                client.push_program(task.id, "def main(input):\\n    return input * 2\\n")
                assert client.execute(task.id, 21).output == 42

        def test_two(loopai_server):
            addresses.add(loopai_server.base_url)
            assert len(addresses) == 1
        """
    ).assert_outcomes(passed=2)


@pytest.mark.skipif(sys.version_info >= (3, 10), reason="there is a server from Python 3.10 on")
def test_without_an_embedded_server_its_tests_are_skipped_with_the_reason(run) -> None:
    """Below Python 3.10 a user's matrix stays green, and says why."""
    result = run("def test_one(loopai_server): pass", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*the embedded server needs Python 3.10*"])


def test_a_run_that_does_not_use_loopai_does_not_import_it(run) -> None:
    """The plugin is loaded in every pytest run where loopai is installed, and must cost next to nothing there.

    It also keeps coverage whole: what is imported before coverage starts is never counted.
    """
    run(
        """
        import sys

        def test_not_imported(request):
            assert request.config.pluginmanager.has_plugin("loopai")
            assert not [name for name in sys.modules if name == "loopai" or name.startswith(("loopai.", "httpx"))]
        """
    ).assert_outcomes(passed=1)


def test_the_fixtures_are_listed_with_their_meaning(run) -> None:
    """`pytest --fixtures` is where users look for them."""
    result = run("", "--fixtures")
    for name in ("loopai_fake", "loopai_client", "loopai_async_client", "loopai_no_waits", "loopai_server"):
        result.stdout.fnmatch_lines([f"{name}*"])
