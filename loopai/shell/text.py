"""Text output of commands: JSON, and texts of a server, which must not control the terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Optional

from ..exceptions import ConnectionException, TimeoutException

if TYPE_CHECKING:
    from ..client import SyncLoopaiClient

# The last ranges change the text direction: a line would seem to say something else.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(value: object) -> str:
    """Return the text of a value for a terminal: control characters, which could control it, are escaped."""
    return _CONTROLS.sub(lambda match: repr(match[0])[1:-1], str(value))


def json_text(value: Any) -> str:
    """Return a JSON value as text for people."""
    return shown(json.dumps(_plain(value), ensure_ascii=False, indent=2))


def to_json(value: Any, *, ascii_only: bool = True) -> str:
    """Return a value as JSON; models as the server sent them."""
    return _written_out(json.dumps(_plain(value), ensure_ascii=ascii_only, indent=2))


def message_line(text: str) -> str:
    """Return a message as the JSON line of a command with `--json`."""
    return _written_out(json.dumps({"message": text}, ensure_ascii=False))


def failure(code: int, text: str, *, as_json: bool) -> str:
    """Return a failed command's message as one line: with `--json` an object, else its name and the text."""
    if not as_json:
        return f"loopai: {text}"
    return _written_out(json.dumps({"error": text, "exit_code": code}, ensure_ascii=False))


def _written_out(text: str) -> str:
    # Such characters only occur within JSON strings, where the escape is equivalent.
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def no_server(client: SyncLoopaiClient, error: Exception) -> Optional[str]:
    """Return what to do if nothing answers at the default address; `None` for any other failure."""
    config = client.config
    unanswered = isinstance(error, ConnectionException) and not isinstance(error, TimeoutException)
    if not unanswered or config.local or config.sources["base_url"] != "default":
        return None
    why = getattr(error, "original_exception", None) or error
    advice = "start one with: loopai serve, or name one with --base-url or LOOPAI_BASE_URL"
    return f"no server answers at {config.base_url} ({why}): {advice}"
