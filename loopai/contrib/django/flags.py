"""The flags of a table (`loopai.shell`) as arguments of `manage.py`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from ...shell.options import Flag


def add_flags(parser: ArgumentParser, flags: Iterable[Flag]) -> None:
    """Add an argument for each flag, under its heading; one without a spelling is positional and required."""
    groups: dict[str, Any] = {"": parser}
    for flag in flags:
        info = flag.info
        if info.group not in groups:
            groups[info.group] = parser.add_argument_group(info.group)
        described: dict[str, Any] = {"help": info.help.replace("%", "%%")}
        if flag.switch:
            described["action"] = "store_true"
        else:
            described.update(metavar=info.metavar, action="append" if info.repeated else "store")
        if flag.flags:
            described["dest"] = flag.name
        groups[info.group].add_argument(*(flag.flags or (flag.name,)), **described)
