"""Report public names that the built site does not document."""

from __future__ import annotations

import inspect
import sys
import zlib
from pathlib import Path

import loopai
import loopai.contrib.django
import loopai.contrib.fastapi
import loopai.testing
from loopai import LoopaiClient

INVENTORY = Path(__file__).parents[1] / "site" / "objects.inv"


def described() -> set[str]:
    """Return the names in the site's inventory, in Sphinx's format: four lines, then compressed ones."""
    content = INVENTORY.read_bytes()
    start = 0
    for _ in range(4):
        start = content.index(b"\n", start) + 1
    return {line.split(" ", 1)[0] for line in zlib.decompress(content[start:]).decode().splitlines()}


def public() -> set[str]:
    """Return the public names, and every method of the clients; the reference shows the synchronous client."""
    names = {
        f"{module.__name__}.{name}"
        for module in (loopai, loopai.contrib.django, loopai.contrib.fastapi, loopai.testing)
        for name in module.__all__
    }
    methods = {name for name, _ in inspect.getmembers(LoopaiClient, callable) if not name.startswith("_")}
    return names - {"loopai.__version__"} | {f"loopai.client.SyncLoopaiClient.{name}" for name in methods}


def main() -> int:
    missing = sorted(public() - described())
    for name in missing:
        print(f"the reference lacks {name}: add it to a page in docs/reference/")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
