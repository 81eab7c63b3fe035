"""The contract's two error shapes, as exceptions and as JSON: its own object, and model binding's problem details."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from . import timestamps

ABSENT_BODY = "A non-empty request body is required."
REQUEST_FIELD = {"request": ["The request field is required."]}
"""The error that model binding adds if the whole body is unusable; `request` is the real server's parameter name."""

_TYPES = {
    400: "https://tools.ietf.org/html/rfc9110#section-15.5.1",
    415: "https://tools.ietf.org/html/rfc9110#section-15.5.16",
}
_RUN = secrets.token_hex(6).upper() + "L"
_counter = itertools.count(1)


class ApiError(Exception):
    """An error reply with the contract's own error object; `details` is a text or a list of broken rules."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: str | Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.headers = dict(headers or {})

    def wire(self) -> dict[str, Any]:
        """The body: `code`, `message`, `details?`, `trace_id`, `timestamp`."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if isinstance(self.details, str):
            body["details"] = self.details
        elif self.details is not None:
            body["details"] = [{"property_name": name, "error_message": text} for name, text in self.details]
        body["trace_id"] = f"{_RUN}:{next(_counter):08X}"
        body["timestamp"] = timestamps.iso8601(timestamps.now())
        return body


def invalid(broken: Sequence[tuple[str, str]]) -> ApiError:
    """Return 400 `VALIDATION_ERROR` with the broken rules, as (property, text)."""
    return ApiError(400, "VALIDATION_ERROR", "Request validation failed", broken)


class BindingProblem(Exception):
    """A request that model binding refuses: errors by JSON path, property or parameter name."""

    def __init__(self, errors: Mapping[str, Sequence[str]] | None, status: int = 400) -> None:
        super().__init__(status)
        self.errors = errors
        self.status = status

    def wire(self, traceparent: str | None) -> dict[str, Any]:
        """The body; `traceId` continues the caller's trace where `traceparent` names one."""
        trace = (traceparent or "").split("-")
        known = len(trace) >= 4 and len(trace[1]) == 32 and all(sign in "0123456789abcdef" for sign in trace[1])
        trace_id = trace[1] if known else secrets.token_hex(16)
        body: dict[str, Any] = {
            "type": _TYPES[self.status],
            "title": "Unsupported Media Type" if self.status == 415 else "One or more validation errors occurred.",
            "status": self.status,
        }
        if self.errors is not None:
            body["errors"] = {name: list(texts) for name, texts in self.errors.items()}
        body["traceId"] = f"00-{trace_id}-{secrets.token_hex(8)}-00"
        return body


def unbindable(path: str, text: str) -> BindingProblem:
    """400 for a body that is not JSON or holds a wrong type at `path`, or lacks members there."""
    return BindingProblem({path: [text], **REQUEST_FIELD})


def unbindable_parameter(name: str, value: str) -> BindingProblem:
    """400 for a value in the path or query that is not of its type."""
    return BindingProblem({name: [f"The value '{value}' is not valid."]})
