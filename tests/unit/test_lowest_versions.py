"""The lower bounds of the package, as `SECURITY.md` lists them and `make matrix` runs them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")

ROOT = Path(__file__).parents[2]
OF_TOOLS = {"all", "dev", "docs", "test", "test-tools"}
LOWEST = ("3.10-oldest", "3.10-lowest", "3.11-lowest")
REQUIREMENT = re.compile(r"([a-z0-9-]+)(?:\[[a-z,-]+\])?>=([\d.]+)")


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def bounds() -> dict[str, str]:
    """The lower bound of each library that users install, from Python 3.10."""
    found = {}
    extras = [given for name, given in project()["optional-dependencies"].items() if name not in OF_TOOLS]
    for text in [*project()["dependencies"], *(text for given in extras for text in given)]:
        if "python_version < '3.10'" not in text:
            match = REQUIREMENT.match(text)
            assert match is not None, text
            found[match[1]] = match[2]
    return found


def test_security_names_the_lower_bound_of_every_library() -> None:
    """As it stands in the project's requirements: a bound that changes is compared with the advisories again."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    table = text.partition("## Lowest versions")[2].partition("Django 4.2 works")[0]
    listed = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([\d.]+) \|", table, re.MULTILINE))
    assert {name: listed.get(name) for name in bounds()} == bounds()


def test_the_matrix_runs_the_lowest_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each version that its oldest environments pin is the lower bound itself."""
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    pytest.importorskip("fastapi", reason="the matrix needs the embedded server")
    import matrix

    monkeypatch.delitem(sys.modules, "matrix")
    packages = [text for name in LOWEST for text in matrix.ENVIRONMENTS[name].packages]
    pinned = dict(re.findall(r"([a-z0-9-]+)==([\d.]+)", " ".join(packages)))
    ours = {name: version for name, version in pinned.items() if name in bounds()}
    server = [REQUIREMENT.match(text) for text in project()["optional-dependencies"]["server"]]
    assert {match[1] for match in server if match is not None} <= set(ours)
    assert {"celery", "django", "httpx2", "narwhals", "pyarrow", "pyreqwest", "python-calamine", "zstandard"} <= set(
        ours
    )
    assert all(
        version.split(".")[: bound.count(".") + 1] == bound.split(".") and not version.removeprefix(bound).strip(".0")
        for name, version in ours.items()
        for bound in [bounds()[name]]
    )
