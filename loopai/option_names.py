"""How errors name options: as parameters in Python, as flags in a shell."""

from __future__ import annotations

from typing import Any, Callable

from .modes import MODES

OptionNames = Callable[[str], str]
"""Maps an option's name to the way its user writes it. The modes `resume`, `retry_failed`, … are names too."""

_FLAGS = {
    "mapping": "--map",
    "version": "--task-version",
    "types": "--type",
    "filters": "--filter",
    "input": "INPUT",
    "program": "FILE",
}


def in_python(name: str) -> str:
    """Return the parameter, or the mode as an argument: `key`, `mode="resume"`."""
    return f'mode="{name}"' if name in MODES else name


def in_shell(name: str) -> str:
    """Return the flag: `--key`, `--resume`."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


class _Names(dict[str, Any]):
    def __init__(self, values: dict[str, Any], names: OptionNames) -> None:
        super().__init__(values)
        self._names = names

    def __missing__(self, name: str) -> str:
        return self._names(name)


def spell(template: str, names: OptionNames, **values: Any) -> str:
    """Format a template. `{key}` becomes the way the user writes option `key`, unless `values` has that name."""
    return template.format_map(_Names(values, names))


def spelled(error: BaseException, names: OptionNames) -> str:
    """Return the text of an error, with its options named by `names`."""
    named: Any = getattr(error, "spelled", None)
    return str(error if named is None else named(names))
