"""Generate pages of the site from the code: tables of options, help of the commands, and files of the root folder.

A hook of MkDocs; see `mkdocs.yml`. Handwritten pages are in docs/.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FROM_ROOT = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md"}
RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/options.md": client_options(),
        "reference/batch-options.md": batch_options(),
        "reference/command-line.md": command_line(),
        "reference/django-commands.md": django_commands(),
        "reference/codes.md": codes(),
    }
    for name, source in FROM_ROOT.items():
        pages[name] = RELATIVE_LINK.sub(_from_docs, (ROOT / source).read_text(encoding="utf-8"))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _from_docs(link: re.Match[str]) -> str:
    """Convert a link in a file of the root folder to one in docs/."""
    target = link[1]
    for page, source in FROM_ROOT.items():
        target = target.replace(source, page)
    return f"]({target.removeprefix('docs/')})"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _rows(head: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _type(options: type, name: str) -> str:
    """Return the type of an option as declared in its table, with `or` between alternatives."""
    return " or ".join(
        f"`{part}`" for part in _alternatives(ast.parse(options.__annotations__[name], mode="eval").body)
    )


def _alternatives(declared: ast.expr) -> list[str]:
    if not isinstance(declared, ast.Subscript) or ast.unparse(declared.value) not in {"Union", "Optional"}:
        return [ast.unparse(declared)]
    inner = declared.slice.elts if isinstance(declared.slice, ast.Tuple) else [declared.slice]
    found = [name for part in inner for name in _alternatives(part)]
    return found if ast.unparse(declared.value) == "Union" else [*found, "None"]


def client_options() -> str:
    """The one table of client options."""
    from loopai.config import OPTIONS, Config

    rows = (
        (
            f"`{option.argument}`",
            _type(Config, option.argument),
            f"`{option.environment}`",
            f"`{option.django}`",
            f"`{option.default!r}`",
            option.help,
        )
        for option in OPTIONS
    )
    return (
        "# Client options\n\nAn argument overrides the environment variable, which overrides the default. The Django "
        "key "
        "is the one in the `LOOPAI` setting; `LoopaiSettings` of FastAPI has the arguments as fields.\n\n"
        + _rows(("argument", "type", "environment variable", "Django key", "default", "meaning"), rows)
    )


def batch_options() -> str:
    """The one table of batch options, and where each can be given."""
    from loopai.batch.options import FILE, QUERYSET, REQUEST, RUN, STREAM, BatchOptions, table

    places = {
        STREAM: "batch_stream", RUN: "run_batch", FILE: "loopai batch", QUERYSET: "loopai_batch", REQUEST: "FastAPI",
    }  # fmt: skip
    defaults = BatchOptions()

    def rows() -> Iterator[tuple[Any, ...]]:
        for name, info in table(BatchOptions):
            flag = ", ".join(f"`{each}`" for each in info.flags or (f"--{name.replace('_', '-')}",))
            shell = flag if info.where & {FILE, QUERYSET} else ""
            where = ", ".join(label for place, label in places.items() if place in info.where)
            yield f"`{name}`", _type(BatchOptions, name), shell, f"`{getattr(defaults, name)!r}`", info.help, where

    return (
        "# Batch options\n\nThe options for Python, both commands and FastAPI. In a shell the modes are flags "
        "(`--resume`, `--retry-failed`, `--overwrite`).\n\n"
        + _rows(("parameter", "type", "flag", "default", "meaning", "where"), rows())
    )


def command_line() -> str:
    """The help of `loopai` and of each of its commands."""
    import click
    import typer

    from loopai.cli.app import app

    parts = [
        "# Command line\n\nThe help of each command, as `--help` shows it. `loopai --install-completion` installs "
        "completion for bash, zsh, fish or PowerShell: commands, flags, task names, and the values of flags.\n"
    ]

    def walk(command: Any, path: str, parent: click.Context | None) -> None:
        context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
        parts.append(f"## `{path}`\n\n{_prose(command.help or '')}\n\n```text\n{command.get_usage(context)}\n```\n")
        parts.append(_rows(("option", "meaning"), _click_options(command, context)))
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{path} {name}", context)

    walk(typer.main.get_command(app), "loopai", None)
    return "\n".join(parts)


def _click_options(command: Any, context: Any) -> Iterator[tuple[Any, ...]]:
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if record is not None:
            yield f"`{re.sub(chr(92) + 's+', ' ', record[0])}`", _prose(record[1])


def _prose(text: str) -> str:
    """Return help without terminal markup."""
    return re.sub(r"\[/?[a-z ]+\]", "", text).replace("\b", "").replace("<", "&lt;")


def codes() -> str:
    """Exit codes, checks and signals: the tables of the guides, which a test compares with the code."""
    return (
        "# Exit codes, checks, signals\n\n"
        "## Exit codes of batches\n\n"
        "For `loopai batch` and `manage.py loopai_batch`. See [Batches](../batches.md#exit-codes).\n\n"
        + _table_below("batches.md", "## Exit codes")
        + "\n## Exit codes of the other commands\n\n"
        + _rows(
            ("code", "meaning"),
            iter(
                [
                    ("0", "success"),
                    ("1", "failure: an error of the program, something not found, a rejected input"),
                    ("2", "usage or configuration"),
                    ("4", "no server answers"),
                    ("130", "Ctrl-C (SIGINT)"),
                ]
            ),
        )
        + "\n## Django's system checks\n\nRun `manage.py check`, or `manage.py check --deploy`. "
        "See [Django](../django.md#checks).\n\n"
        + _table_below("django.md", "## Checks")
        + "\n## Django's signals\n\nIn `loopai.contrib.django.signals`. Each webhook event sends `loopai_event` and "
        "the signal of its type, with `event` and `alias`. See [Django](../django.md#webhooks).\n\n"
        + _table_below("django.md", "## Webhooks")
    )


def _table_below(page: str, heading: str) -> str:
    """The first table below a heading of a guide."""
    _, _, section = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    if table is None:
        raise ValueError(f"docs/{page} has no table below {heading!r}")
    return table[0]


def django_commands() -> str:
    """The help of each management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django.conf.global_settings")
    from django.conf import settings
    from django.core.management import find_commands, load_command_class

    if not settings.configured:
        settings.configure(INSTALLED_APPS=["loopai.contrib.django"])
    import django

    django.setup()
    app = "loopai.contrib.django"
    parts = ["# Django commands\n\nThe help of each management command, as `--help` shows it.\n"]
    for name in find_commands(str(ROOT / "loopai" / "contrib" / "django" / "management")):
        parser = load_command_class(app, name).create_parser("manage.py", name)
        parts.append(f"## `{name}`\n\n{_prose(parser.description or '')}\n")
        parts.append(_parser(parser))
    return "\n".join(parts)


def _parser(parser: argparse.ArgumentParser) -> str:
    common = {"--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color",
              "--skip-checks", "--help"}  # fmt: skip
    formatter = argparse.HelpFormatter(parser.prog)
    text = ""

    def rows() -> Iterator[tuple[Any, ...]]:
        for action in parser._actions:
            if common & set(action.option_strings) or isinstance(action, argparse._SubParsersAction):
                continue
            if action.help != argparse.SUPPRESS:
                words = formatter._format_action_invocation(action)
                yield f"`{words}`", _prose(formatter._expand_help(action)) if action.help else ""

    text += _rows(("option", "meaning"), rows())
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                text += f"\n### `{name}`\n\n{_prose(child.description or '')}\n\n{_parser(child)}"
    return text
