"""What the guides and README list is what the code has: options, exit codes, check ids, signals, rows; and links."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from loopai import exceptions
from loopai.batch import rows
from loopai.batch.reporting import statistics
from loopai.cli.session import METAVARS
from loopai.config import OPTIONS
from loopai.contrib.django.exits import DATABASE_FAILED
from loopai.models import EVENT_TYPES
from loopai.shell import command
from loopai.shell.options import CommandOptions, flags_of
from loopai.shell.tasks import VERBS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def table(text: str, head: str) -> list[list[str]]:
    """The rows below the head of a table, cell by cell, without code marks."""
    _, found, rest = text.partition(f"| {head} |")
    assert found, f"no table begins with {head!r}"
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")] for line in lines]


def codes(text: str, head: str = "code | meaning") -> list[int]:
    return [int(code) for row in table(text, head) for code in row[0].split(", ")]


BATCH_CODES = [
    command.ALL_OK,
    command.FAILED_ROWS,
    command.USAGE,
    command.STOPPED_BY_ERRORS,
    command.SERVER_UNREACHABLE,
    DATABASE_FAILED,
    130,
    143,
]


def test_exit_codes_of_a_batch() -> None:
    """The guide has those of the code, and the signals'."""
    assert codes(page("batches")) == BATCH_CODES


def test_kinds_of_failed_rows() -> None:
    """Each `Outcome.code` of the engine has its line."""
    named = [row[0] for row in table(page("batches"), "`code` | the row")]
    assert sorted(named) == sorted(get_args(rows.Code))


def test_why_runs_end() -> None:
    """Each `Summary.ended` has its line."""
    assert sorted(row[0] for row in table(page("batches"), "`ended` | the run")) == sorted(get_args(statistics.Ended))


@pytest.mark.parametrize("name", ["batches", "django"])
def test_flags_that_are_named_exist(name: str) -> None:
    """A flag in a guide is one of the command that the guide is about, or of another that it shows."""
    known = {name for flag in flags_of(CommandOptions) for name in flag.flags} | {"--json"}
    known |= {f"--{name.replace('_', '-')}" for name in METAVARS}  # the client's
    if name == "django":
        # Read as text: the module needs Django's settings.
        source = (ROOT / "loopai" / "contrib" / "django" / "batches" / "options.py").read_text(encoding="utf-8")
        known |= {f"--{name.replace('_', '-')}" for name in re.findall(r"^    (\w+): .* = option\(", source, re.M)}
        known |= set(re.findall(r'"(--[a-z-]+)"', source))
        commands = ROOT / "loopai" / "contrib" / "django" / "management" / "commands"
        for path in commands.glob("loopai_*.py"):
            known |= set(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
        known |= {name for verb in VERBS.values() for flag in verb.flags for name in flag.flags}
        known |= {"--deploy", "--tag", "--verbosity"}  # Django's own
    prose = re.sub(r"`[^`]*pip install[^`]*`", "", page(name))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)) <= known


def test_django_s_keys_are_the_options() -> None:
    """The guide lists every key of an alias, in the order of the table of options."""
    listed = page("django").partition("capitals: ")[2].partition("`.")[0] + "`"
    assert re.findall(r"`([A-Z_]+)`", listed) == [option.django for option in OPTIONS]


def test_django_s_checks() -> None:
    """The guide lists the ids that the checks give, each once."""
    folder = ROOT / "loopai" / "contrib" / "django"
    source = "".join(
        path.read_text(encoding="utf-8") for path in (*folder.glob("*.py"), *folder.glob("enrichment/*.py"))
    )
    listed = [row[0] for row in table(page("django"), "id | what")]
    assert listed == sorted(set(re.findall(r'\bid="(loopai\.[EW]\d+)"', source)))


def test_django_s_exit_codes() -> None:
    """Those of `loopai_health` and `loopai_tasks`."""
    source = (ROOT / "loopai" / "contrib" / "django" / "exits.py").read_text(encoding="utf-8")
    assert codes(page("django")) == [0, *(int(code) for code in re.findall(r"^[A-Z]+ = (\d)$", source, re.MULTILINE))]


def test_django_s_signals() -> None:
    """Each type of event with the signal of its type."""
    pytest.importorskip("django", reason="the signals are Django's")
    from loopai.contrib.django import signals

    found = dict(table(page("django"), "event | signal"))
    assert tuple(found) == EVENT_TYPES
    assert {kind: getattr(signals, name) for kind, name in found.items()} == signals.BY_TYPE


def test_fastapi_s_statuses() -> None:
    """Each exception is answered with the status that the guide says."""
    pytest.importorskip("pydantic_settings", reason="loopai.contrib.fastapi needs it")
    from loopai.contrib.fastapi.problems import problem_of

    listed = table(page("fastapi"), "raised | status")
    found: dict[str, int] = {}
    for name, status in listed:
        kind: Any = getattr(exceptions, name.rpartition(" ")[2])
        found[kind.__name__] = problem_of(kind("what happened"))[0].status
        assert found[kind.__name__] == int(status.partition(",")[0]), name
    kinds = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if kind.__name__ not in found]
    others = [kind for kind in kinds if issubclass(kind, exceptions.LoopaiException)]
    assert {problem_of(kind("what happened"))[0].status for kind in others} == {found["LoopaiException"]}


def test_limits_of_a_folder_of_runs() -> None:
    """The guide has each with its default; what is not there is where it lies, and what tests set."""
    pytest.importorskip("pydantic_settings", reason="loopai.contrib.fastapi needs it")
    from loopai.contrib.fastapi import RunFolder

    _, _, section = page("fastapi").partition("`RunFolder` has the limits")
    listed = {name: default for name, default, _ in table(section, "option | default | above it")}
    parameters = inspect.signature(RunFolder).parameters
    assert set(listed) == set(parameters) - {"path", "clock"}
    for name, default in listed.items():
        assert int(default.split()[0].replace(",", "")) == parameters[name].default, name


def test_settings_of_the_lifespan() -> None:
    """What `LoopaiSettings` has besides the options is named with its default."""
    pytest.importorskip("pydantic_settings", reason="loopai.contrib.fastapi needs it")
    from loopai.contrib.fastapi import LoopaiSettings

    for name in LoopaiSettings.model_fields.keys() - {option.argument for option in OPTIONS}:
        assert f"`{name}` (`{LoopaiSettings.model_fields[name].default}`" in page("fastapi")


def test_benchmark_rows_are_those_that_are_measured() -> None:
    """The rows and goals of the transports' guide stand in the benchmarks."""
    source = (ROOT / "benchmarks" / "calls.py").read_text(encoding="utf-8")
    for name, baseline, goal in table(page("transports"), "row of `make bench` | baseline | goal"):
        line = next(line for line in source.splitlines() if f'"{name}"' in line)
        assert f'= "{baseline}"' in source
        wanted = "Goal(1.0)" if goal == "≤ 1 ×" else f"TimesLess({goal.partition(' ')[0]})"
        assert wanted in line, name


def test_metrics_and_attributes_are_those_of_the_telemetry() -> None:
    """The deployment guide names each metric in a table, and each attribute of a span in the text."""
    source = (ROOT / "loopai" / "telemetry.py").read_text(encoding="utf-8").partition("def __init__")[2]
    metrics = set(re.findall(r'"(loopai\.client\.\w+)"', source))
    assert {row[0] for row in table(page("deployment"), "metric | what")} == metrics
    set_on_spans = re.findall(
        r'set_attribute\("([\w.]+)"|attributes\["([\w.]+)"\]|_attributes\(call\), "([\w.]+)"', source
    )
    for names in set_on_spans:
        assert f"`{''.join(names)}`" in page("deployment"), names


# Made from the code when the site is built, which checks the links to them.
GENERATED = {
    f"docs/reference/{name}.md" for name in ("options", "batch-options", "command-line", "django-commands", "codes")
}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of repositories make them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    """A link within the repository names a file that is there, and a heading in it."""
    for link in re.findall(r"\]\(([^)]+)\)", re.sub(r"`[^`]*`", "", path.read_text(encoding="utf-8"))):
        name, _, anchor = link.replace("\n", " ").partition("#")
        target = (path.parent / name).resolve() if name else path
        if target.relative_to(ROOT).as_posix() in GENERATED:
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_source_distribution_has_the_guides() -> None:
    """README links to them."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"/docs"' in pyproject.partition("[tool.hatch.build.targets.sdist]")[2].partition("[")[2].partition("]")[0]
