"""The main job, as `make demo` and `make demo-serve` run it: a spam filter made from 1,000 real e-mails, which judges
1,452 others in a Django project."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytest.importorskip("django")

from .conftest import environment

DEMO = Path(__file__).parents[2] / "example_projects" / "django_mail" / "demo.py"
CLOSING = re.compile(r"demo: rows=1452 errors=0 accuracy=(0\.\d{3}) rows_per_s=([1-9]\d*)")
PATIENCE = 300.0

pytestmark = pytest.mark.slow


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """The folder that a demo runs in, and the one for its temporary files."""
    made = tmp_path / "here", tmp_path / "temporary"
    for place in made:
        place.mkdir()
    return made


def left_in(places: tuple[Path, Path]) -> list[str]:
    # Other libraries keep locks and caches below the temporary folder; ours begin with its name.
    return [each.name for each in (*places[0].iterdir(), *places[1].glob("loopai*"))]


def test_the_demo_sorts_real_mail(places: tuple[Path, Path]) -> None:
    """Every e-mail gets a verdict, at least 96.5 % get the right one, and the last line says so."""
    # What a user has set for a server of their own is none of the demo's business.
    environ = environment(TMPDIR=str(places[1]), LOOPAI_BASE_URL="http://127.0.0.1:9", LOOPAI_TASKS="spam=none")
    done = subprocess.run(
        [sys.executable, str(DEMO)], cwd=places[0], env=environ, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    closing = CLOSING.fullmatch(lines[-1])
    assert closing, lines[-1]
    assert float(closing[1]) >= 0.965
    commands = [line.split() for line in lines if line.startswith("$ python manage.py ")]
    assert [words[3] for words in commands] == ["migrate", "make_filter", "import_mail", "loopai_batch"]
    batch = "loopai_batch spam --queryset mail.Message --save-to label=output.label"
    assert " ".join(commands[-1]).endswith(batch)
    for told in ("accuracy", "precision of spam", "recall of spam", "rows a second"):
        assert any(told in line for line in lines), f"the table has no {told}"
    assert "1,452 ok, 0 errors" in done.stderr
    assert left_in(places) == [], "the demo leaves files behind"


def test_the_demo_stays_up_until_it_is_ended(places: tuple[Path, Path]) -> None:
    """It says where inbox, admin and server are, and who may enter; Ctrl-C ends all of it, and leaves nothing."""
    command = [sys.executable, "-u", str(DEMO), "--serve", "--port", "0", "--examples", "200"]
    process = subprocess.Popen(
        command, cwd=places[0], env=environment(TMPDIR=str(places[1])), stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        told = ""
        for line in process.stdout:
            told += line
            if "Ctrl-C" in line:
                break
        addresses = dict(re.findall(r"^(Inbox|Admin|Server docs) +(http://\S+)", told, re.MULTILINE))
        user = re.search(r"user (\w+), password (\w+)", told)
        assert user, told
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as visitor:
            assert "of 1,452 e-mails" in visitor.get(addresses["Inbox"]).text
            assert visitor.get(addresses["Server docs"]).status_code == 200
            login = visitor.get(addresses["Admin"])
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', login.text)
            assert token
            fields = {"csrfmiddlewaretoken": token[1], "username": user[1], "password": user[2]}
            assert "Batch runs" in visitor.post(login.url, data=fields).text
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "Traceback" not in said, said
    assert left_in(places) == [], "the demo leaves files behind"
