"""What the embedded server keeps to itself: its files, its key, and whom it answers."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai import SyncLoopaiClient, local
from loopai.exceptions import ConfigurationError, LoopaiException, NotSupportedException

ID = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(found.stat().st_mode) for found in folder.iterdir()}


def test_nobody_else_reads_the_data_folder(tmp_path: Path) -> None:
    """A new folder and its files are the owner's, whatever the umask; so is one that was open before."""
    folder = tmp_path / "data"
    for _ in range(2):
        with SyncLoopaiClient.local(folder) as client:
            client.list_tasks()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert modes(folder) == {0o600}
        folder.chmod(0o755)
        for found in folder.iterdir():
            found.chmod(0o644)


def test_a_folder_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    """Only the server's own files are hidden then."""
    tmp_path.chmod(0o755)
    (tmp_path / "notes.txt").touch(0o644)
    with SyncLoopaiClient.local(tmp_path) as client:
        client.list_tasks()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "loopai.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "notes.txt").stat().st_mode) == 0o644


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local.running(
        api_key="the-key", allowed_hosts=["Loopai.example"], cors_origins=["https://a.example"]
    ) as found:
        yield found.base_url


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("192.168.1.7:8080", 200),
        ("loopai.example", 200),
        ("LOOPAI.example.:80", 200),
        ("app.localhost", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("loopai.example.evil", 421),
        ("localhost@evil.example", 400),
        ("evil.example/localhost", 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/health", "/health", "/metrics", "/docs", "/openapi.json"])
def test_only_requests_for_its_own_names_are_answered(url: str, path: str, host: str, status: int) -> None:
    """A page that makes its own name lead here reads nothing, of any path."""
    assert httpx.get(url + path, headers={"Host": host, "Authorization": "Bearer the-key"}).status_code == status


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_of_the_key_may_be_written_in_any_case(url: str, scheme: str) -> None:
    """As HTTP has it."""
    with httpx.Client(base_url=url) as http:
        assert http.get("/api/v1/tasks", headers={"Authorization": f"{scheme} the-key"}).status_code == 200
        assert http.get("/api/v1/tasks").status_code == 401


def test_metrics_need_the_key(url: str) -> None:
    """They tell tasks and how much they are used; a scraper can have the key."""
    assert httpx.get(f"{url}/metrics").status_code == 401
    assert httpx.get(f"{url}//Metrics/").status_code != 200
    reply = httpx.get(f"{url}/metrics", headers={"Authorization": "Bearer the-key"})
    assert "loopai_" in reply.text
    with SyncLoopaiClient(url, "the-key") as client:
        assert "loopai_" in client.get_metrics()


@pytest.mark.parametrize("path", ["health", "health/live", "health/ready", "health/detailed", "HEALTH/"])
def test_health_needs_no_key(url: str, path: str) -> None:
    """A supervisor has none."""
    assert httpx.get(f"{url}/api/v1/{path}").status_code == 200


def test_the_address_leads_to_the_documentation(url: str) -> None:
    """Which is what somebody sees who opens it in a browser."""
    reply = httpx.get(url + "/")
    assert (reply.status_code, reply.headers["location"]) == (307, "/docs")


def test_pages_of_named_sites_may_ask(url: str) -> None:
    """Their preflight needs no key; other sites get no permission."""
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    allowed = httpx.options(f"{url}/api/v1/tasks", headers={"Origin": "https://a.example", **headers})
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    refused = httpx.options(f"{url}/api/v1/tasks", headers={"Origin": "https://b.example", **headers})
    assert "access-control-allow-origin" not in refused.headers


def test_wrong_keys_are_rationed() -> None:
    """After 20 in a minute the address is refused, with the right key too: it could not be guessed by the answer."""
    with local.running(api_key="the-key") as server, httpx.Client(base_url=server.base_url) as http:
        statuses = [
            http.get("/api/v1/tasks", headers={"Authorization": f"Bearer {at}"}).status_code for at in range(25)
        ]
        assert statuses == [401] * 20 + [429] * 5
        refused = http.get("/api/v1/tasks", headers={"Authorization": "Bearer the-key"})
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert http.get("/api/v1/health/live").status_code == 200


@pytest.mark.parametrize(("proxies", "second"), [((), 429), (("127.0.0.1",), 200)])
def test_only_a_trusted_proxy_says_who_asks(proxies: tuple[str, ...], second: int) -> None:
    """Otherwise anybody would have as many rations as there are addresses."""
    with local.running(rate_limit=1, trusted_proxies=proxies) as server:
        statuses = [
            httpx.get(f"{server.base_url}/api/v1/tasks", headers={"X-Real-IP": address}).status_code
            for address in ("10.0.0.1", "10.0.0.2")
        ]
    assert statuses == [200, second]


def test_the_key_may_come_from_a_file(tmp_path: Path) -> None:
    """Without the line's end; a file that cannot be read is a configuration error, as are two keys."""
    file = tmp_path / "key"
    file.write_text("from-file\n")
    with local.running(api_key_file=str(file)) as server:
        headers = {"Authorization": "Bearer from-file"}
        assert httpx.get(f"{server.base_url}/api/v1/tasks", headers=headers).status_code == 200
        assert httpx.get(f"{server.base_url}/api/v1/tasks").status_code == 401
    with pytest.raises(ConfigurationError, match="cannot be read"):
        local.running(api_key_file=str(tmp_path / "none")).__enter__()
    with pytest.raises(ConfigurationError, match="exclude each other"):
        local.running(api_key="a", api_key_file=str(file)).__enter__()


def test_the_factory_reads_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`uvicorn --factory loopai.local:create` needs no arguments; a variable that is not known is an error."""
    from starlette.testclient import TestClient

    monkeypatch.setenv("LOOPAI_SERVER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOOPAI_SERVER_ALLOWED_HOSTS", "testserver, other.example")
    monkeypatch.setenv("LOOPAI_API_KEY", "the-key")
    with TestClient(local.create()) as http:
        assert http.get("/api/v1/tasks", headers={"Authorization": "Bearer the-key"}).json() == []
        assert http.get("/api/v1/tasks").status_code == 401
    assert (tmp_path / "data" / "loopai.db").exists()
    monkeypatch.setenv("LOOPAI_SERVER_RATE_LIMIT", "many")
    with pytest.raises(ConfigurationError, match="LOOPAI_SERVER_RATE_LIMIT"):
        local.create()
    monkeypatch.delenv("LOOPAI_SERVER_RATE_LIMIT")
    monkeypatch.setenv("LOOPAI_SERVER_NONSENSE", "1")
    with pytest.raises(ConfigurationError, match="LOOPAI_SERVER_NONSENSE"):
        local.create()


def test_what_the_server_lacks_says_so() -> None:
    """501 with the contract's error object, so that the client raises `NotSupportedException` for each."""
    with SyncLoopaiClient.local() as client:
        calls = [
            lambda: client.get_validation_summary(ID),
            lambda: client.get_recommendations(ID),
            lambda: client.improve_program(ID),
            lambda: client.compare_programs(ID, ID),
            lambda: client.start_canary(ID, ID),
            lambda: client.progress_canary(ID),
            lambda: client.rollback_canary(ID, "reason"),
            lambda: client.get_canary(ID),
            lambda: client.subscribe_webhook("https://a.example", ["programImproved"]),
            lambda: client.unsubscribe_webhook(ID),
            client.list_webhooks,
            lambda: client.get_webhook_history(ID),
        ]
        for call in calls:
            with pytest.raises(NotSupportedException, match="does not support") as caught:
                call()
            assert (caught.value.status_code, caught.value.code) == (501, "NOT_SUPPORTED")


@pytest.mark.slow
def test_closing_while_a_large_batch_is_recorded(tmp_path: Path) -> None:
    """The write ends or is undone, in order: no crash, and the folder is as good as before."""
    client = SyncLoopaiClient.local(tmp_path)
    task = client.create_task("q", "d", {}, {})
    client.push_program(task.id, "def main(input):\n    return 1")
    raised: list[BaseException] = []

    def run() -> None:
        try:
            client.batch_execute(task.id, [{"a": 1}] * 30_000)
        except (LoopaiException, RuntimeError) as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    log = tmp_path / "loopai.db-wal"
    before = log.stat().st_size
    thread.start()
    while log.stat().st_size < before + 500_000 and thread.is_alive():
        thread.join(0.01)
    client.close()
    thread.join(20)
    assert not thread.is_alive()
    with closing(SyncLoopaiClient.local(tmp_path)) as again:
        assert [found.id for found in again.list_tasks()] == [task.id]
