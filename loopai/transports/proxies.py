"""The proxy that the environment names for a server: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import urllib.request
from typing import Optional
from urllib.parse import urlsplit

from ..config import Config
from ..exceptions import ConfigurationError

SCHEMES = frozenset({"http", "https", "socks5", "socks5h"})


def proxy_for(config: Config) -> Optional[str]:
    """The proxy's address with its scheme, `None` for a direct connection or where `trust_env` is off.

    Raises `ConfigurationError` for what is no address of a proxy.
    """
    if not config.trust_env:
        return None
    parts = urlsplit(config.base_url)
    # The port, too, as NO_PROXY may name one.
    if urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address:
        return None
    address = address if "://" in address else f"http://{address}"
    try:
        proxy = urlsplit(address)
        usable = proxy.scheme in SCHEMES and bool(proxy.hostname) and proxy.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        # The address may hold a password: it is not shown.
        raise ConfigurationError(
            f"the environment's proxy for {parts.scheme} (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) is no address of a "
            f"proxy: set one like http://proxy:3128, or NO_PROXY, or trust_env=False"
        )
    return address
