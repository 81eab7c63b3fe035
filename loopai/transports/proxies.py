"""The proxy for a server: the option `proxy`, or what the environment names (HTTP_PROXY, ALL_PROXY, NO_PROXY, …)."""

from __future__ import annotations

import contextlib
import urllib.request
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Optional
from urllib.parse import urlsplit

from ..config import Config, read_proxy
from ..exceptions import ConfigurationError


@dataclass(frozen=True)
class Proxy:
    """A proxy's address; its repr, which tracebacks show, has neither user nor password."""

    address: str = field(repr=False)
    scheme: str
    host: str


def proxy_for(config: Config) -> Optional[Proxy]:
    """Return the proxy for a configuration's server, `None` for a direct connection.

    The option `proxy` takes precedence over the environment, which is used unless `trust_env` is off. Raises
    `ConfigurationError` for an invalid address.
    """
    if config.proxy is not None:
        return _parsed(config.proxy)  # which was read before: it is one
    if not config.trust_env:
        return None
    parts = urlsplit(config.base_url)
    host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    named = urllib.request.getproxies().get("no", "")
    if bypasses(host, port, named) or urllib.request.proxy_bypass(parts.netloc):
        return None
    proxy, problem = _of_the_environment(parts.scheme)
    if problem is not None:
        # Raised here, where no variable holds the address: it may have a password.
        raise ConfigurationError(
            f"the environment's proxy for {parts.scheme} (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) {problem}: set one like "
            f"http://proxy:3128, or NO_PROXY, or trust_env=False"
        )
    return proxy


def _of_the_environment(scheme: str) -> tuple[Optional[Proxy], Optional[str]]:
    """Return the proxy, or what is wrong with its address."""
    found = urllib.request.getproxies()
    address = found.get(scheme) or found.get("all")
    if not address:
        return None, None
    try:
        return _parsed(address if "://" in address else f"http://{address}"), None
    except ValueError as error:
        return None, str(error)


def _parsed(address: str) -> Proxy:
    parts = read_proxy(address)
    return Proxy(address, parts.scheme, parts.hostname or "")


def bypasses(host: str, port: int, named: str) -> bool:
    """Return whether NO_PROXY lists a host: a name, domain (`.x`, `*.x`), network, or address, also in brackets."""
    address = None
    host = host.lower().rstrip(".")
    with contextlib.suppress(ValueError):  # a name
        address = ip_address(host)
    for entry in (part.strip().lower() for part in named.split(",")):
        if not entry:
            continue
        if entry == "*":
            return True
        wanted, wanted_port = _with_port(entry)
        if wanted_port is not None and wanted_port != port:
            continue
        if address is not None:
            try:
                if address in ip_network(wanted, strict=False):
                    return True
            except ValueError:  # a name, or another family
                continue
        else:
            domain = wanted.removeprefix("*").strip(".")
            if domain and (host == domain or host.endswith("." + domain)):
                return True
    return False


def _with_port(entry: str) -> tuple[str, Optional[int]]:
    """Return host and port of `host:port` and `[v6]:port`; a bare IPv6 address contains colons, too."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        port = rest.lstrip(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    else:
        return entry, None
    return host, int(port) if port.isdecimal() else None
