"""Follow the paths of a new user: from an empty folder and a fresh environment to the end of each tutorial, with times.

    .venv/bin/python .ci/new_user.py [TUTORIAL ...]

Installs the packages named in the tutorial's first paragraph, as the documentation says, from this checkout. Then runs
only the tutorial's commands. Needs curl, and the package index for the libraries.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from importlib.metadata import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.integrations.guide_reader import Reader, blocks, follow  # noqa: E402  # needs the path

TUTORIALS = {"python": "SDK", "django": "Django", "fastapi": "FastAPI"}


def needs(text: str) -> tuple[list[str], list[str]]:
    """Return the extras of loopai and the other packages named in a tutorial's first paragraph."""
    first = re.search(r"with the extras (.+?)\.\n", text, re.DOTALL)
    if first is None:
        raise SystemExit("the first paragraph does not say which extras are needed")
    named = re.findall(r"`([\w-]+)`", first[1])
    known = metadata("loopai-sdk").get_all("Provides-Extra") or []
    return [name for name in named if name in known], [name for name in named if name not in known]


def install(folder: Path, extras: list[str], others: list[str]) -> str:
    """Create an environment as the documentation says, and return its Python."""
    shown = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    command = 'python -m pip install ".[cli,server]"'
    if command not in shown:
        raise SystemExit(f"docs/index.md no longer shows {command!r}")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    packages = [f".[{','.join(extras)}]", *others]
    subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", *packages], cwd=ROOT, check=True
    )
    return str(python)


def see_admin(site: str) -> None:
    """Log in as the tutorial says, and check that the run and the teams are there."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    login = f"{site}/admin/login/?next=/admin/"
    page = browser.open(login).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    given = {"csrfmiddlewaretoken": token[1] if token else "", "username": "admin", "password": "choose-one"}
    home = browser.open(login, urllib.parse.urlencode(given).encode()).read().decode()
    for link, wanted in (("loopai/batchrun", "finished"), ("tickets/ticket", "technical")):
        if f"/admin/{link}/" not in home:
            raise SystemExit(f"the admin's first page has no link to {link}")
        page = browser.open(f"{site}/admin/{link}/").read().decode()
        if wanted not in re.sub(r"<[^>]+>", "", page).lower():
            raise SystemExit(f"/admin/{link}/ does not show {wanted!r}")


def walk(name: str) -> tuple[float, float]:
    """Follow a tutorial; return the seconds for the installation and for the rest."""
    text = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    with TemporaryDirectory(prefix="loopai-new-user-") as place:
        started = time.monotonic()
        python = install(Path(place) / "venv", *needs(text))
        installed = time.monotonic()
        folder = Path(place) / "empty"
        folder.mkdir()
        reader = Reader(folder, python=python)
        try:
            follow(reader, blocks(text))
            if name == "django":
                see_admin(reader.site)
        finally:
            reader.end()
        return installed - started, time.monotonic() - installed


def main(names: list[str]) -> int:
    for name in names or TUTORIALS:
        installing, following = walk(name)
        print(f"{TUTORIALS.get(name, name)}: {installing:.0f} s to install, {following:.0f} s to follow", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
