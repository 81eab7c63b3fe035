"""Management commands in a shell: only there do they end the process; with `--json`, errors are JSON."""

from __future__ import annotations

import io
import re
import sys
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from ...shell.text import failure, message_line
from .exits import USAGE


class ShellCommand(BaseCommand):
    """A command that only exits the process in a shell; under `call_command` it raises `CommandError`."""

    in_shell = False
    """Whether it was started from a shell, not by `call_command`."""
    _as_json = _parsed = False
    stderr: OutputWrapper

    def run_from_argv(self, argv: list[str]) -> None:
        """See Django."""
        self.in_shell, self._as_json = True, "--json" in argv
        try:
            super().run_from_argv(argv)
        except CommandError as error:
            if not self._as_json or self._parsed:
                raise  # with `--traceback`
            self._exit_with(USAGE, re.sub("^Error: ", "", str(error)))

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """See Django. With `--json` usage errors are raised, so that they can be written as JSON."""
        self._called_from_command_line = self.in_shell and not self._as_json
        return super().create_parser(prog_name, subcommand, **kwargs)

    def execute(self, *args: Any, **options: Any) -> Any:
        """See Django."""
        self._as_json, self._parsed = bool(options.get("json")), True
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            if not (self._as_json and self.in_shell) or options.get("traceback"):
                raise
            self._exit_with(error.returncode, str(error))

    def check(self, *args: Any, **options: Any) -> None:
        """See Django. With `--json` its warnings are a JSON line."""
        if not self._as_json:
            super().check(*args, **options)
            return
        stderr, written = self.stderr, io.StringIO()
        self.stderr = OutputWrapper(written)
        try:
            super().check(*args, **options)
        finally:
            self.stderr = stderr
        if written.getvalue():
            print(message_line(written.getvalue().strip()), file=self.voice, flush=True)

    def end(self, code: int, text: str) -> None:
        """End with an exit code that the command has already explained. Raises `CommandError` under `call_command`."""
        if code and self.in_shell:
            sys.exit(code)
        if code:
            raise CommandError(text, returncode=code)

    @property
    def voice(self) -> TextIO:
        """The stream for messages: Django's wrapper adds a line break to each write, which breaks a progress bar."""
        return cast("TextIO", getattr(self.stderr, "_out", self.stderr))

    def _exit_with(self, code: int, text: str) -> None:
        print(failure(code, text, as_json=True), file=self.voice, flush=True)
        sys.exit(code)
