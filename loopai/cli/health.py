"""`loopai health`: the health that the server reports."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..shell.text import shown
from . import output
from .failures import FAILED, OK
from .session import Session, shared


@shared
def health(
    session: Session,
    detailed: Annotated[bool, typer.Option("--detailed", help="Also show each component.")] = False,
) -> int:
    """Show whether the server is healthy.

    Exit code 0 if it is, 1 if it is not, 4 if it does not answer. Sends one request, without retries.
    """
    with session.client(max_retries=0) as client, output.waiting("Asking the server"):
        report = client.get_detailed_health() if detailed else client.get_health()
        address = "embedded" if client.config.local else client.base_url
    well = report.status.lower() == "healthy"
    if session.as_json:
        output.show_json(report)
        return OK if well else FAILED
    reply = report.reply
    rows: list[tuple[str, Any]] = [
        ("server", address),
        ("status", output.state(report.status, well)),
        ("version", report.version),
        ("environment", report.environment),
        ("answered in", None if reply is None else f"{reply.elapsed * 1000:.0f} ms"),
    ]
    for name, part in getattr(report, "components", {}).items():
        time = "" if part.response_time is None else f" in {part.response_time:g} ms"
        said = output.state(part.status, part.status.lower() == "healthy")
        rest = f"{time}, {part.message}" if part.message else time
        rows.append((name, said.append(shown(rest), style="default")))
    output.show(output.facts(rows))
    return OK if well else FAILED
