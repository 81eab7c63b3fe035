"""`python -m benchmarks [GROUP …]`: measures, prints a table or JSON, and exits with 1 if a goal is missed."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

from .measuring import GROUPS, Result, run

# One module per group; importing it registers the group.
MODULES = (
    "imports",
    "executions",
    "server",
    "calls",
    "batches",
    "edges",
    "sandbox",
    "programs",
    "typescript",
    "django_batches",
    "fastapi_routes",
)
LIBRARIES = ("loopai", "httpx", "pydantic", "pydantic-monty", "fastapi", "uvicorn")


def machine() -> dict[str, object]:
    """The machine and the versions, without which the figures mean nothing."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def table(results: list[Result], quick: bool) -> Table:
    """The results as a table; a quick run shows its goals without judging them."""
    shown = Table(title="quick run: goals are not judged" if quick else None)
    for column in ("group", "what", "baseline in the same run"):
        shown.add_column(column, overflow="fold")
    for column in ("figure", "baseline", "ratio", "goal", "met"):
        shown.add_column(column, justify="right", no_wrap=True)
    for result in results:
        row = result.row
        shown.add_row(
            result.group,
            row.name,
            row.baseline,
            f"{result.figure:.3g} {row.unit}",
            f"{result.baseline:.3g} {row.unit}",
            f"{result.ratio:.2f} ×",
            f"{row.goal}" if row.goal.of == "ratio" else f"{row.goal} {row.unit}",
            "–" if quick else "yes" if result.met else "NO",
        )
    return shown


def as_json(results: list[Result], quick: bool) -> str:
    rows = [
        {
            "group": result.group,
            "what": result.row.name,
            "baseline_name": result.row.baseline,
            "unit": result.row.unit,
            "figure": result.figure,
            "baseline": result.baseline,
            "ratio": result.ratio,
            "goal": {"of": result.row.goal.of, "at_most": result.row.goal.at_most},
            "met": None if quick else result.met,
            "figures": result.figures,
            "baselines": result.baselines,
        }
        for result in results
    ]
    return json.dumps({"machine": machine(), "quick": quick, "results": rows}, indent=2, ensure_ascii=False)


def main() -> int:
    for module in MODULES:
        importlib.import_module(f"{__package__}.{module}")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("group", nargs="*", help=f"one or several of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON, with the figures of each round")
    parser.add_argument("--quick", action="store_true", help="one short round: only shows that it runs")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.group) - GROUPS.keys())
    if unknown:
        parser.error(f"no group {unknown[0]!r}: there are {', '.join(GROUPS)}")

    narrator = Console(stderr=True)
    results = []
    for name in chosen.group or GROUPS:
        narrator.print(f"measuring {name}", style="dim")
        results += list(run(name, chosen.quick))
    if chosen.json:
        print(as_json(results, chosen.quick))
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(table(results, chosen.quick))
    return 0 if chosen.quick or all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
