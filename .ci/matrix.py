"""Runs the tests on each Python of the matrix that is found, each in an environment of its own under .matrix/.

Run it with a Python that has the embedded server. Exit code 1 if a run failed; with CI=true also if none was found.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from loopai import local

VERSIONS = ["3.9", "3.10", "3.12", "3.13"]
# Below this the embedded server cannot run: the contract suite asks one on this Python, what needs it in process skips.
SERVER_FROM = (3, 10)
# Typing tests check the sources, not the interpreter, and need the tools of the development environment.
LEFT_OUT = ["--ignore=tests/typing", "--ignore=tests/unit/test_docs_run.py", "--ignore=tests/e2e"]


def find(version: str) -> str | None:
    found = subprocess.run([".ci/find-python", version], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def environment(version: str, base: str) -> Path:
    """The environment's interpreter; made anew only when `pyproject.toml` has changed."""
    place = Path(".matrix", version)
    python, stamp = place / "bin" / "python", place / ".installed"
    if python.exists() and stamp.exists() and stamp.stat().st_mtime > Path("pyproject.toml").stat().st_mtime:
        return python
    print(f"Installing into {place}", flush=True)
    subprocess.run([base, "-m", "venv", "--clear", str(place)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-qq"]
    subprocess.run([*pip, "--editable", ".[all,test]"], check=True)
    stamp.touch()
    return python


def tests(version: str, python: Path, smoke: bool) -> int:
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *LEFT_OUT]
    has_server = tuple(map(int, version.split("."))) >= SERVER_FROM
    if smoke or not has_server:
        command += ["tests/unit", "tests/contract"]
    if has_server:
        return subprocess.run(command, check=False).returncode
    # pytest-asyncio's last release for 3.9 leaves event loops unclosed, which then fail whichever test comes next.
    command += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    with local.running() as server:
        environ = {**os.environ, "LOOPAI_CONTRACT_URL": server.base_url}
        return subprocess.run(command, env=environ, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="*", help=f"without any: {', '.join(VERSIONS)}")
    parser.add_argument("--smoke", action="store_true", help="unit tests and the contract suite only")
    chosen = parser.parse_args()
    outcomes = {}
    for version in chosen.version or VERSIONS:
        base = find(version)
        if base is None:
            outcomes[version] = "not found"
            continue
        print(f"--- Python {version}", flush=True)
        python = environment(version, base)
        started = time.monotonic()
        code = tests(version, python, chosen.smoke)
        outcomes[version] = f"{'passed' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s"
    print("--- matrix")
    for version, outcome in outcomes.items():
        print(f"{version:5} {outcome}")
    none_ran = all(outcome == "not found" for outcome in outcomes.values())
    failed = any(outcome.startswith("FAILED") for outcome in outcomes.values())
    return 1 if failed or (none_ran and os.environ.get("CI") == "true") else 0


if __name__ == "__main__":
    sys.exit(main())
