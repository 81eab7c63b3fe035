"""`loopai serve`: the embedded server in the foreground."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, Optional
from urllib.parse import urlsplit

import typer

from . import output
from .failures import INTERRUPTED, OK, USAGE, Failed
from .session import JsonOption, among, flags_given, resolved

if TYPE_CHECKING:
    from ..language_model import LanguageModel

DATA = ".loopai"
"""The default data folder, in the current folder: a server should not forget its tasks."""

OUTPUT_CHECKS: Final = ("off", "warn", "reject")
RECORDS: Final = ("all", "failures", "none")

# SIGTERM from a supervisor is success; Ctrl-C is an interruption, as in every command.
_CODES: Final[Mapping[int, int]] = {signal.SIGTERM: OK, signal.SIGINT: INTERRUPTED}


@resolved
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    data: Annotated[
        str, typer.Option("--data", metavar="DIR", help="Folder for tasks, programs and executions.")
    ] = DATA,
    temporary: Annotated[
        bool, typer.Option("--temporary", help="Keep data in memory only; it is lost when the server stops.")
    ] = False,
    api_key: Annotated[
        Optional[str],
        typer.Option(
            "--api-key", metavar="KEY", help="Key that requests must have (LOOPAI_API_KEY).", show_default=False
        ),
    ] = None,
    no_check_inputs: Annotated[
        bool, typer.Option("--no-check-inputs", help="Also run inputs that do not fit the task's schema.")
    ] = False,
    rate_limit: Annotated[
        Optional[int],
        typer.Option("--rate-limit", metavar="N", min=1, help="Most requests per minute, path and client address."),
    ] = None,
    api_key_file: Annotated[
        Optional[str],
        typer.Option("--api-key-file", metavar="FILE", help="File that contains the key.", show_default=False),
    ] = None,
    allowed_host: Annotated[
        Optional[list[str]],
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="Host name that requests may use, besides localhost, "
            "IP addresses and --host; * for any. May be repeated.",
            show_default=False,
        ),
    ] = None,
    trusted_proxy: Annotated[
        Optional[list[str]],
        typer.Option(
            "--trusted-proxy",
            metavar="ADDRESS",
            help="Proxy whose X-Real-IP header is trusted. May be repeated.",
            show_default=False,
        ),
    ] = None,
    cors_origin: Annotated[
        Optional[list[str]],
        typer.Option(
            "--cors-origin",
            metavar="ORIGIN",
            help="Site whose pages may call the server. May be repeated.",
            show_default=False,
        ),
    ] = None,
    check_outputs: Annotated[
        str,
        typer.Option(
            "--check-outputs",
            metavar="|".join(OUTPUT_CHECKS),
            help="What to do with outputs that do not fit the task's schema.",
            autocompletion=among(OUTPUT_CHECKS),
        ),
    ] = "warn",
    record: Annotated[
        str,
        typer.Option(
            "--record",
            metavar="|".join(RECORDS),
            help="Which executions to keep.",
            autocompletion=among(RECORDS),
        ),
    ] = "all",
    keep_days: Annotated[
        Optional[float],
        typer.Option("--keep-days", metavar="DAYS", help="Delete executions after so many days.", show_default=False),
    ] = None,
    request_timeout: Annotated[
        float, typer.Option("--request-timeout", metavar="SECONDS", help="Time limit for receiving a request.")
    ] = 30.0,
    legacy: Annotated[bool, typer.Option("--legacy", help="Answer all clients in the form of SDK 0.1.0.")] = False,
    llm_model: Annotated[
        Optional[str],
        typer.Option(
            "--llm-model",
            metavar="NAME",
            help="Language model that writes programs; tasks and examples are sent to it (LOOPAI_LLM_MODEL).",
            show_default=False,
        ),
    ] = None,
    llm_base_url: Annotated[
        Optional[str],
        typer.Option(
            "--llm-base-url",
            metavar="URL",
            help="Its OpenAI-compatible endpoint (LOOPAI_LLM_BASE_URL). The key is LOOPAI_LLM_API_KEY.",
            show_default=False,
        ),
    ] = None,
    llm_examples: Annotated[
        Optional[int],
        typer.Option(
            "--llm-examples",
            metavar="N",
            min=0,
            max=30,
            help="Most examples of a task that are sent to it (LOOPAI_LLM_EXAMPLES).",
            show_default=False,
        ),
    ] = None,
    generator: Annotated[
        Optional[str],
        typer.Option(
            "--generator",
            metavar="URL",
            help="Service that writes programs (POST URL/generate); tasks and examples are sent to it.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Keep programs that score below their task's accuracy target as drafts."),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Run the embedded server until Ctrl-C or SIGTERM.

    Tasks, programs and executions are kept in the folder .loopai; choose another with --data.
    """
    from .. import local

    before = flags_given(context)
    unused = sorted(before.keys() - {"api_key"})
    if unused:
        raise Failed(f"serve calls no server and has no option --{unused[0].replace('_', '-')}", USAGE)
    as_json = as_json or bool(context.find_root().params.get("as_json"))
    given = before.get("api_key") if api_key is None else api_key
    if given is not None and api_key_file is not None:
        raise Failed("--api-key and --api-key-file exclude each other: pass one of them", USAGE)
    if api_key_file is None and given is None and "LOOPAI_API_KEY" not in os.environ:
        api_key_file = os.environ.get("LOOPAI_API_KEY_FILE") or None
    key = None if api_key_file is not None else _key(given)
    model = _language_model(llm_model=llm_model, llm_base_url=llm_base_url, llm_examples=llm_examples)
    folder = None if temporary else Path(data).expanduser().absolute()

    def announce(base_url: str) -> None:
        if as_json:
            told = {"base_url": base_url, "docs": f"{base_url}/docs", "data": None if folder is None else str(folder)}
            asked = None if model is None else {"model": model.model, "base_url": model.base_url}
            known = {"api_key": key is not None or api_key_file is not None, "language_model": asked}
            output.show_json({**told, **known})
            return
        output.tell(
            output.facts(
                [
                    ("Loopai server", base_url),
                    ("documentation", f"{base_url}/docs"),
                    ("data", "none is kept" if folder is None else folder),
                    ("API key", "required" if key is not None or api_key_file is not None else _without_key(host)),
                    *_asked(model, generator),
                ]
            ),
            "Ctrl-C ends it.",
        )

    # uvicorn logs each step of its start; only errors matter here.
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    # uvicorn shuts down at either signal and then raises it again, for these handlers.
    earlier = {number: signal.getsignal(number) for number in _CODES}
    for number, handler in earlier.items():
        if handler is not signal.SIG_IGN:  # as SIGINT is for background jobs of a script
            signal.signal(number, _ended)
    try:
        local.serve(
            host,
            port,
            None if folder is None else str(folder),
            key,
            api_key_file=api_key_file,
            allowed_hosts=allowed_host or (),
            trusted_proxies=trusted_proxy or (),
            cors_origins=cors_origin or (),
            check_inputs=not no_check_inputs,
            check_outputs=_one_of("--check-outputs", check_outputs, OUTPUT_CHECKS),
            record=_one_of("--record", record, RECORDS),
            keep_days=keep_days,
            rate_limit=rate_limit,
            request_timeout=request_timeout,
            legacy=legacy,
            language_model=model,
            generator=generator,
            strict=strict,
            on_bound=announce,
        )
    except OSError as error:
        raise Failed(_not_listening(error, host, port)) from None
    except _Ended as ended:
        return ended.exit_code
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return OK


class _Ended(BaseException):
    """The server was stopped by a signal and shut down properly. Not an `Exception`, so that no handler catches it."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def _ended(number: int, frame: Optional[FrameType]) -> NoReturn:
    raise _Ended(_CODES[number])


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _key(given: Optional[str]) -> Optional[str]:
    """Return the key, checked and read from the same places as the client's."""
    from ..config import NOT_GIVEN, resolve

    name = "LOOPAI_API_KEY"
    environ = {name: os.environ[name]} if name in os.environ else {}
    found = resolve({"api_key": NOT_GIVEN if given is None else given}, environ).api_key
    return found if isinstance(found, str) else None


def _language_model(**given: Any) -> Optional[LanguageModel]:
    """Return the language model from flags and environment, by the client's table of options."""
    from ..config import NOT_GIVEN, resolve

    environ = {name: text for name, text in os.environ.items() if name.startswith("LOOPAI_LLM_")}
    arguments = {name: NOT_GIVEN if value is None else value for name, value in given.items()}
    return resolve(arguments, environ).language_model


def _asked(model: Optional[LanguageModel], generator: Optional[str]) -> list[tuple[str, str]]:
    """Return which data is sent to other hosts, if any."""
    if model is not None:
        shown = f"and up to {model.examples} of their examples " if model.examples else ""
        return [("language model", f"{model.model}: descriptions, schemas {shown}are sent to {model.host}")]
    if generator is not None:
        return [("generator", f"tasks and their examples are sent to {urlsplit(generator).hostname}")]
    return []


def _one_of(option: str, given: str, allowed: tuple[str, ...]) -> Any:
    if given not in allowed:
        raise Failed(f"{option} must be one of {', '.join(allowed)}, not {given!r}", USAGE)
    return given


def _without_key(host: str) -> str:
    try:
        private = ipaddress.ip_address(host).is_loopback
    except ValueError:
        private = host == "localhost"
    if private:
        return "none: every user and program on this machine can use the server (--api-key KEY)"
    return "none: anyone who can reach this address can run and change tasks (--api-key KEY)"


def _not_listening(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; choose another with --port, or a free one with --port 0"
    if error.errno == errno.EACCES:
        return f"no permission to use port {port} of {host}; choose one from 1024 up with --port"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"
