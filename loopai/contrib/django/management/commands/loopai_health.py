"""`manage.py loopai_health`: whether the server of each alias answers, and its status."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandParser

from .....exceptions import ConfigurationError, LoopaiException
from ...clients import get_client
from ...conf import aliases
from ...exits import FAILED, UNREACHABLE, USAGE, code_of, told
from ...in_shell import ShellCommand

ANSWERS_WITHIN = 10.0
"""Default time limit for each server, in seconds."""

_GRAVEST_FIRST = (USAGE, UNREACHABLE, FAILED)


class Command(ShellCommand):
    """Checks the server of each alias."""

    help = (
        "Check whether the server of each alias is healthy. "
        "Exit code: 0 all healthy, 1 one is not, 2 wrong configuration, 4 one cannot be reached."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--alias", action="append", dest="aliases", help="only this alias; may be repeated")
        parser.add_argument("--timeout", type=float, default=ANSWERS_WITHIN, help="seconds for each server")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check all servers, then print."""
        with told():
            names = options["aliases"] or aliases()
        reports = [_asked(alias, options["timeout"]) for alias in names]
        if options["json"]:
            self.stdout.write(json.dumps([{**facts, "exit_code": code} for facts, code in reports], indent=2))
        else:
            for facts, code in reports:
                style = self.style.ERROR if code else self.style.SUCCESS
                server = " ".join(
                    str(facts[part]) for part in ("base_url", "version", "environment") if facts.get(part)
                )
                self.stdout.write(f"{facts['alias']}: {style(facts['status'])} {server}".rstrip())
                if facts.get("error"):
                    self.stdout.write(f"    {facts['error']}")
        codes = {code for _, code in reports}
        gravest = next((code for code in _GRAVEST_FIRST if code in codes), 0)
        self.end(gravest, f"a server is not healthy (exit code {gravest})")


def _asked(alias: str, seconds: float) -> tuple[dict[str, Any], int]:
    """Return the result for an alias, and its exit code."""
    facts: dict[str, Any] = {"alias": alias}
    try:
        client = get_client(alias)
        if not client.config.local:
            facts["base_url"] = client.base_url
        health = client.with_options(deadline=seconds, max_retries=0).get_health()
    except (LoopaiException, ConfigurationError, ImproperlyConfigured) as error:
        code = code_of(error)
        status = {UNREACHABLE: "unreachable", USAGE: "misconfigured"}.get(code, "failing")
        return {**facts, "status": status, "error": str(error)}, code
    healthy = health.status.lower() == "healthy"
    facts.update(status=health.status, version=health.version, environment=health.environment)
    return facts, 0 if healthy else FAILED
