"""The wheel beside an index that offers a newer package named `loopai`, as the public one does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STRANGER = "loopai-99.0-py3-none-any.whl"


def pip(*words: str) -> str:
    """What pip said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def offer_stranger(folder: Path) -> None:
    """A newer `loopai` of somebody else, to be found in the folder."""
    with zipfile.ZipFile(folder / STRANGER, "w") as wheel:
        wheel.writestr("loopai/__init__.py", "raise SystemExit('a stranger')\n")
        wheel.writestr("loopai-99.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: loopai\nVersion: 99.0\n")
        wheel.writestr("loopai-99.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("loopai-99.0.dist-info/RECORD", "")


def test_nothing_of_a_stranger_is_installed(tmp_path: Path) -> None:
    """Neither an upgrade nor all extras install the stranger's package, although it is newer."""
    index = tmp_path / "index"
    index.mkdir()
    offer_stranger(index)
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(index), str(ROOT))
    [built] = index.glob("loopai_sdk-*.whl")
    offline = ("--no-index", "--find-links", str(index))

    with zipfile.ZipFile(built) as wheel:
        [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        described = wheel.read(metadata).decode().partition("\n\n")[2]
    assert described.startswith("# ")
    assert not re.search(r"\]\((?!https?:|#)", described), "a package page has no folder beside it"

    # Its libraries are in this environment already; a stranger's package is not, and would be taken from the index.
    report = tmp_path / "report.json"
    for wanted in ("loopai-sdk", f"{built}[all]"):
        pip("install", "--dry-run", "--upgrade", "--quiet", "--report", str(report), *offline, wanted)
        taken = {each["metadata"]["name"] for each in json.loads(report.read_text())["install"]}
        assert taken <= {"loopai-sdk"}, taken

    place = tmp_path / "place"
    pip("install", "--quiet", "--no-deps", "--target", str(place), *offline, "--upgrade", "loopai-sdk")
    names = {each.name.partition("-")[0] for each in place.glob("*.dist-info")}
    assert names == {"loopai_sdk"}
    assert "stranger" not in (place / "loopai" / "__init__.py").read_text()


def test_the_stranger_would_be_found(tmp_path: Path) -> None:
    """The index of the test above offers what it says; asked for by its name it is taken."""
    offer_stranger(tmp_path)
    report = tmp_path / "report.json"
    offline = ("--no-index", "--find-links", str(tmp_path))
    pip(
        "install",
        "--dry-run",
        "--quiet",
        "--no-deps",
        "--ignore-installed",
        "--report",
        str(report),
        *offline,
        "loopai",
    )
    [taken] = json.loads(report.read_text())["install"]
    assert (taken["metadata"]["name"], taken["metadata"]["version"]) == ("loopai", "99.0")
