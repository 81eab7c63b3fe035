"""What crosses the transport seam: a request out, and a reply, or word that none came, back.

Not frozen, though nobody changes them: each field of a frozen one costs every call half a microsecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional, Union


class Headers(dict[str, str]):
    """Headers whose repr shows names only, so that no key ends in a log or a traceback with locals."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(sorted(self))}>"


@dataclass
class Request:
    """One attempt of one call.

    `url` is absolute. `timeout` bounds the attempt in seconds from the moment it is admitted to a
    connection; `queue_timeout` bounds the wait for admission; `max_bytes` is the most of a reply's
    body, decoded, that is read. `None` for no limit.
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
    """No response came.

    `arrived` says whether the server may have seen the request; only where it may is repeating a
    POST a question. `timed_out` is true where our own bound ended the attempt, not the network;
    `untrusted` where the server's certificate was refused, as it would be again; `final` where
    another attempt cannot be made at all; `cut` where a reply had begun and broke off.
    """

    error: BaseException
    arrived: bool
    timed_out: bool = False
    queued: float = 0.0
    untrusted: bool = False
    final: bool = False
    cut: bool = False


Answer = Union[Reply, NoReply]
