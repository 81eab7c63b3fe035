"""What is passed between the core and transports: a request, and a reply or the failure to get one.

Not frozen, although they are never changed: each field of a frozen one costs every call half a microsecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional, Union


class Headers(dict[str, str]):
    """Headers whose repr shows names only, so that no key appears in a log or a traceback with locals."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(sorted(self))}>"


@dataclass
class Request:
    """One attempt of one call.

    `url` is absolute. `timeout` is the time limit of the attempt in seconds, from the moment it gets a
    connection; `queue_timeout` that of the wait for a connection; `max_bytes` is how much of a reply's
    decoded body is read. `None` for no limit.
    """

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    timeout: Optional[float] = None
    queue_timeout: Optional[float] = None
    max_bytes: Optional[int] = None


@dataclass
class Reply:
    """A whole response: status, headers (names in lower case), body as sent, decoded from its coding.

    `queued` is how long the attempt waited for a connection, in seconds. `cut` says that the body was
    larger than the request's `max_bytes`, and `content` is only its start.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    queued: float = 0.0
    cut: bool = False


@dataclass
class NoReply:
    """No response was received.

    `arrived` says whether the server may have received the request, so that repeating a POST needs
    care. `timed_out` is true if our own time limit ended the attempt, not the network; `untrusted` if
    the server's certificate was refused, as it would be again; `final` if another attempt is
    impossible; `cut` if a reply had begun and broke off.
    """

    error: BaseException
    arrived: bool
    timed_out: bool = False
    queued: float = 0.0
    untrusted: bool = False
    final: bool = False
    cut: bool = False


Answer = Union[Reply, NoReply]
