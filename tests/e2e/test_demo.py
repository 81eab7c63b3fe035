"""The main job, as `make demo` runs it: a spam filter made from 1,000 real e-mails, which judges 1,452 others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLOSING = re.compile(r"demo: rows=1452 errors=0 accuracy=(0\.\d{3}) rows_per_s=([1-9]\d*)")


@pytest.mark.slow
def test_the_demo_sorts_real_mail(tmp_path: Path) -> None:
    """Every e-mail gets a verdict, at least 96.5 % get the right one, and the last line says so."""
    demo = ROOT / "example_projects" / "scripts" / "demo.py"
    done = subprocess.run(
        [sys.executable, str(demo)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    closing = CLOSING.fullmatch(lines[-1])
    assert closing, lines[-1]
    assert float(closing[1]) >= 0.965
    for told in ("accuracy", "precision of spam", "recall of spam", "rows a second", "client ms", "server ms"):
        assert any(told in line for line in lines), f"the table has no {told}"
    assert not list(tmp_path.iterdir()), "the demo leaves files behind"
