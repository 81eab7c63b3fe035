"""Proxies and certificates, over each transport, sync and async."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme

from loopai import ConfigurationError, ConnectionException, SyncLoopaiClient
from loopai.transports.proxies import bypasses


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_server(make_server: Any, authority: trustme.CA) -> Any:
    """A server with a certificate of a private authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return make_server(tls=context)


@pytest.fixture
def certificates(authority: trustme.CA, tmp_path: Any) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def trusting(transport_name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The options by which a client trusts an authority: pyreqwest takes it from the environment only."""

    def options(path: str) -> dict[str, Any]:
        if transport_name != "pyreqwest":
            return {"verify": path}
        monkeypatch.setenv("SSL_CERT_DIR" if Path(path).is_dir() else "SSL_CERT_FILE", path)
        return {}

    return options


async def test_a_private_authority_is_trusted_by_its_file(
    tls_server: Any, make_caller: Any, task: str, certificates: str, trusting: Any
) -> None:
    """`verify` names a file of certificates that the server's must come from."""
    client = make_caller(tls_server, **trusting(certificates))
    for turn in range(3):
        assert (await client.execute(task, turn)).output == turn
    assert tls_server.accepted == 1


async def test_a_private_authority_is_trusted_by_its_folder(
    tls_server: Any, make_caller: Any, task: str, certificates: str, tmp_path: Any, trusting: Any
) -> None:
    """`verify` names a folder of certificates under the names that OpenSSL gives them."""
    folder = tmp_path / "hashed"
    folder.mkdir()
    context = ssl.create_default_context(cafile=certificates)
    subject = context.get_ca_certs(binary_form=True)[0]
    (folder / f"{_subject_hash(subject)}.0").write_text(ssl.DER_cert_to_PEM_cert(subject))
    assert (await make_caller(tls_server, **trusting(str(folder))).execute(task, "x")).output == "x"


def _subject_hash(certificate: bytes) -> str:
    # OpenSSL's own: SHA-1 of the canonical subject, which the `openssl` program prints.
    done = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-subject_hash"],
        input=certificate,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


async def test_an_unknown_authority_is_refused(tls_server: Any, make_caller: Any, task: str) -> None:
    """Without `verify` only the public authorities count; the error says what to do, at once: no attempt would help."""
    client = make_caller(tls_server, max_retries=None, retry_waits=False)
    with pytest.raises(ConnectionException, match=r"(?i)certificate .* is not trusted .*: set verify to") as caught:
        await client.execute(task, "x")
    assert not caught.value.retryable
    assert tls_server.asked == []


async def test_a_certificate_for_another_name_is_refused(
    make_server: Any, make_caller: Any, task: str, certificates: str, authority: trustme.CA, trusting: Any
) -> None:
    """A trusted authority's certificate for another host is refused as one of an unknown authority is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("loopai.example").configure_cert(context)
    client = make_caller(make_server(tls=context), **trusting(certificates), max_retries=None, retry_waits=False)
    with pytest.raises(ConnectionException, match="base_url to a name in the certificate") as caught:
        await client.execute(task, "x")
    assert not caught.value.retryable


async def test_verification_can_be_switched_off(tls_server: Any, make_caller: Any, task: str) -> None:
    """`verify=False` takes any certificate."""
    assert (await make_caller(tls_server, verify=False).execute(task, "x")).output == "x"


async def test_a_file_without_certificates_is_a_configuration_error(
    tls_server: Any, make_caller: Any, tmp_path: Any
) -> None:
    """A `verify` that holds no certificate is named when the client is made, not at the first call."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    with pytest.raises(ConfigurationError, match="verify"):
        make_caller(tls_server, verify=str(empty))


async def forward(asked: Any, wire: Any) -> None:
    """Be a proxy: pass a plain request on by its absolute address, or open a tunnel."""
    if asked.method == "CONNECT":
        host, _, port = asked.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(_pump(wire.reader, writer), _pump(reader, wire.writer))
        finally:
            writer.transport.abort()
    else:
        host, _, port = asked.target.split("/")[2].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        path = "/" + asked.target.split("/", 3)[3]
        lines = [f"{asked.method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in asked.headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\nconnection: close\r\n\r\n" + asked.body)
        await wire.send(await _one_reply(reader))
        writer.close()


async def _one_reply(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(length)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_is_used(
    make_server: Any, server: Any, make_caller: Any, task: str, monkeypatch: Any, variable: str
) -> None:
    """Requests go through the proxy that the environment names."""
    proxy = make_server(forward)
    monkeypatch.setenv(variable, f"127.0.0.1:{proxy.port}" if variable == "ALL_PROXY" else proxy.url)
    assert (await make_caller(server).execute(task, "x")).output == "x"
    assert len(proxy.asked) == 1


async def test_a_tunnel_through_the_proxy_carries_tls(
    make_server: Any, tls_server: Any, make_caller: Any, task: str, monkeypatch: Any, certificates: str, trusting: Any
) -> None:
    """HTTPS goes through a tunnel: the proxy sees neither key nor body."""
    proxy = make_server(forward)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    client = make_caller(tls_server, **trusting(certificates), api_key="loopai-secret")
    for turn in range(3):
        assert (await client.execute(task, turn)).output == turn
    assert [asked.method for asked in proxy.asked] == ["CONNECT"]
    assert "authorization" not in proxy.asked[0].headers


async def test_a_proxy_that_refuses_leaves_nothing_sent(
    make_server: Any, tls_server: Any, make_caller: Any, task: str, monkeypatch: Any
) -> None:
    """A tunnel that the proxy denies may be tried again by any call: the server saw nothing."""

    async def deny(asked: Any, wire: Any) -> None:
        await wire.answer(b"", "407 Proxy Authentication Required")
        wire.close()

    proxy = make_server(deny)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    client = make_caller(tls_server, verify=False, max_retries=1, retry_waits=False, retry_unknown=False)
    with pytest.raises(ConnectionException):
        await client.execute(task, "x")
    assert len(proxy.asked) == 1 + 2  # the look-up before it is tried once


async def test_a_proxys_password_is_sent_to_it(
    make_server: Any, server: Any, make_caller: Any, task: str, monkeypatch: Any
) -> None:
    """User and password in the proxy's address become its authorization."""
    proxy = make_server(forward)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
    await make_caller(server).execute(task, "x")
    assert proxy.asked[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "example.org,127.0.0.1", "127.0.0.1:{port}"])
async def test_no_proxy_is_honoured(
    make_server: Any, server: Any, make_caller: Any, task: str, monkeypatch: Any, exempt: str
) -> None:
    """A server that NO_PROXY names is reached directly."""
    proxy = make_server(forward)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", exempt.format(port=server.port))
    assert (await make_caller(server).execute(task, "x")).output == "x"
    assert proxy.asked == []


async def test_the_environment_can_be_left_out(
    make_server: Any, server: Any, make_caller: Any, task: str, monkeypatch: Any
) -> None:
    """`trust_env=False` ignores the environment's proxy."""
    proxy = make_server(forward)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert (await make_caller(server, trust_env=False).execute(task, "x")).output == "x"
    assert proxy.asked == []


@pytest.mark.parametrize("address", ["ftp://proxy:21", "http://", "http://proxy:port"])
async def test_what_is_no_proxy_is_a_configuration_error(
    server: Any, make_caller: Any, monkeypatch: Any, address: str
) -> None:
    """A proxy variable that names none is refused when the client is made."""
    monkeypatch.setenv("HTTP_PROXY", address)
    with pytest.raises(ConfigurationError, match="HTTP_PROXY"):
        make_caller(server)


async def test_a_socks_proxy_without_its_library_names_it(
    server: Any, make_caller: Any, transport_name: str, monkeypatch: Any
) -> None:
    """httpx speaks SOCKS through socksio, which is not installed with it."""
    if transport_name == "pyreqwest":
        pytest.skip("has no such library")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match="pip install socksio"):
        make_caller(server)


async def test_the_option_beats_the_environments_proxy(
    make_server: Any, server: Any, make_caller: Any, task: str, monkeypatch: Any
) -> None:
    """`proxy` is used whatever the environment says, NO_PROXY and `trust_env` included."""
    other, proxy = make_server(forward), make_server(forward)
    monkeypatch.setenv("HTTP_PROXY", other.url)
    monkeypatch.setenv("NO_PROXY", "*")
    client = make_caller(server, proxy=f"http://me:hush@127.0.0.1:{proxy.port}", trust_env=False)
    assert (await client.execute(task, "x")).output == "x"
    assert (len(other.asked), len(proxy.asked)) == (0, 1)
    assert "proxy-authorization" in proxy.asked[0].headers


@pytest.mark.parametrize(
    ("host", "port", "named", "exempt"),
    [
        ("::1", 80, "::1", True), ("::1", 80, "[::1]", True), ("::1", 8080, "[::1]:8080", True),
        ("::1", 80, "[::1]:8080", False), ("fe80::2", 80, "fe80::/10", True), ("2001:db8::1", 80, "::1", False),
        ("10.1.2.3", 80, "10.0.0.0/8", True), ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3:80", True),
        ("api.corp.test", 443, "*.corp.test", True), ("api.corp.test", 443, ".corp.test", True),
        ("api.corp.test", 443, "corp.test", True), ("api.corp.test", 443, "Corp.Test:443", True),
        ("api.corp.test", 443, "corp.test:80", False), ("notcorp.test", 443, "corp.test", False),
        ("notcorp.test", 443, "*.corp.test", False), ("a.test", 80, " b.test , *", True), ("a.test", 80, "", False),
        ("10.1.2.3", 80, "a.test, 10.1.2.3", True), ("a.test", 80, "10.0.0.0/8", False),
    ],
)  # fmt: skip
def test_what_no_proxy_exempts(host: str, port: int, named: str, exempt: bool) -> None:
    """Names, domains, addresses with and without brackets, and networks; each with a port or without."""
    assert bypasses(host, port, named) is exempt


@pytest.mark.parametrize(
    "address", ["socks://me:hush@proxy:1080", "ftp://me:hush@proxy", "http://me:hush@", "socks5://me:hush@proxy"]
)
def test_no_password_of_a_proxy_is_shown(transport_name: str, monkeypatch: Any, address: str) -> None:
    """Neither in the error nor in the variables of its traceback; `socks://` is named as what is wrong."""
    if transport_name == "pyreqwest" and address.startswith("socks5"):
        pytest.skip("speaks SOCKS itself")
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(ConfigurationError) as raised:
        SyncLoopaiClient("http://a.test", transport=transport_name)
    assert "hush" not in str(raised.value)
    assert ("socks5://" in str(raised.value)) == address.startswith("socks:")
    frame = raised.value.__traceback__.tb_next  # type: ignore[union-attr]  # behind the test's own
    while frame is not None:
        assert "hush" not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next
    monkeypatch.delenv("ALL_PROXY")
    with pytest.raises(ConfigurationError) as raised:
        SyncLoopaiClient("http://a.test", transport=transport_name, proxy=address)
    assert "hush" not in str(raised.value)


@pytest.fixture
def identity(authority: trustme.CA, tmp_path: Any) -> tuple[str, str, str]:
    """A client's certificate and key: two files, and one with both."""
    made = authority.issue_cert("me@example.org")
    certificate, key, both = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "both.pem"))
    made.cert_chain_pems[0].write_to_path(certificate)
    made.private_key_pem.write_to_path(key)
    made.private_key_and_cert_chain_pem.write_to_path(both)
    return certificate, key, both


async def test_a_client_shows_its_certificate(
    make_server: Any,
    make_caller: Any,
    task: str,
    authority: trustme.CA,
    certificates: str,
    trusting: Any,
    identity: Any,
) -> None:
    """By one file or two, from argument and environment, where the server asks for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    server = make_server(tls=context)
    certificate, key, both = identity
    for cert in (both, (certificate, key), f"{certificate},{key}"):
        assert (await make_caller(server, **trusting(certificates), cert=cert).execute(task, "x")).output == "x"
    with pytest.raises(ConnectionException):
        await make_caller(server, **trusting(certificates), max_retries=0).execute(task, "x")
    with pytest.raises(ConfigurationError, match="cert: "):
        make_caller(server, **trusting(certificates), cert=certificate)


async def test_pyreqwest_only_adds_authorities(tls_server: Any, certificates: str, monkeypatch: Any) -> None:
    """A file that would replace the machine's on other transports is refused, as is leaving the environment out."""
    pytest.importorskip("pyreqwest")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE, which adds"):
        SyncLoopaiClient(tls_server.url, transport="pyreqwest", verify=certificates)
    SyncLoopaiClient(tls_server.url, transport="pyreqwest", trust_env=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        with monkeypatch.context() as patch:
            patch.setenv(name, certificates)
            with pytest.raises(ConfigurationError, match="trust_env"):
                SyncLoopaiClient(tls_server.url, transport="pyreqwest", trust_env=False)


async def test_the_systems_authorities(tls_server: Any, make_caller: Any, task: str) -> None:
    """`verify="system"` asks the operating system, which does not know a private authority."""
    pytest.importorskip("truststore")
    with pytest.raises(ConnectionException, match="not trusted"):
        await make_caller(tls_server, verify="system", max_retries=0).execute(task, "x")
