"""The one table of batch options, and the faces that take theirs from it."""

from __future__ import annotations

import inspect
import io
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from typing_extensions import Unpack

from loopai import LoopaiClient, SyncLoopaiClient
from loopai.batch.options import FILE, REQUEST, RUN, STREAM, BatchOptions, BatchRequestOptions, OptionInfo, table
from loopai.cli.app import run as command_line
from loopai.exceptions import OptionError
from loopai.option_names import in_python, in_shell, spelled
from loopai.shell.options import CommandOptions, flags_of, options_of
from loopai.testing import FakeLoopai

TABLE: dict[str, OptionInfo] = dict(table(BatchOptions))

# A value that each option refuses, whoever gives it; options that take any text are not here.
WRONG: dict[str, Any] = {
    "mapping": ["text"],
    "limit": "-1",
    "expect": "label=latency",
    "chunk_size": "0",
    "max_in_flight": "many",
    "max_concurrency": "101",
    "max_errors": "half",
    "min_confidence": "80%",
    "timeout_ms": "60001",
    "version": "0",
    "mode": "again",
    "output_format": "xml",
    "format": "xml",
    "delimiter": "::",
    "quotechar": "''",
    "escapechar": "\\\\",
    "encoding": "utf-80",
    "types": ["n=number"],
    "skip_lines": "-1",
    "comment": " ",
    "sheet": "Sheet1",
    "key": "missing",
    "missing": "drop",
}
COMMANDS_OWN: dict[str, Any] = {"report": "nowhere/report.html", "progress": "loud", "grace": "-1"}


def _parameters(method: Any) -> dict[str, inspect.Parameter]:
    given = inspect.signature(method).parameters
    return {name: part for name, part in given.items() if part.kind is inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("client", [LoopaiClient, SyncLoopaiClient])
@pytest.mark.parametrize(("method", "where"), [("batch_stream", STREAM), ("run_batch", RUN)])
def test_the_clients_signatures_are_the_table(client: type, method: str, where: str) -> None:
    """Names, order and defaults; a stream's journal is resumed unless it is told otherwise."""
    parameters = _parameters(getattr(client, method))
    expected = {item.name: item.default for item in fields(BatchOptions) if where in TABLE[item.name].where}
    if where == STREAM:
        expected["mode"] = "resume"
    if expected["types"] is not None:
        expected["types"] = None
    assert list(parameters) == list(expected)
    assert {name: part.default for name, part in parameters.items()} == expected


@pytest.mark.parametrize("method", ["batch_stream", "run_batch"])
def test_the_clients_annotations_are_the_tables(method: str) -> None:
    """Where they are written differently, both are named here, so that neither changes unseen."""
    narrower = {"mode", "types", "max_errors", "mapping", "key", "journal"}
    written = {item.name: item.type for item in fields(BatchOptions)}
    for name, part in _parameters(getattr(SyncLoopaiClient, method)).items():
        if name not in narrower:
            assert part.annotation == written[name]


def test_the_options_of_a_request_are_the_tables() -> None:
    """FastAPI's router and response take each by name and type, and list none of them again."""
    types = get_type_hints(BatchOptions)
    expected = {name: types[name] for name, info in TABLE.items() if REQUEST in info.where}
    assert get_type_hints(BatchRequestOptions) == expected


@pytest.fixture
def fastapi() -> Any:
    """Our package for FastAPI, an extra."""
    return pytest.importorskip("loopai.contrib.fastapi")


def test_routers_list_no_option_of_the_table(fastapi: Any) -> None:
    """They take what the table has for a request."""
    for face in (fastapi.batch_router, fastapi.batch_response):
        parameters = inspect.signature(face).parameters
        assert not BatchRequestOptions.__annotations__.keys() & parameters.keys()
        assert parameters["options"].annotation == Unpack[fastapi.batches.UploadOptions]
    taken = get_type_hints(fastapi.batches.UploadOptions)
    assert taken.items() >= get_type_hints(BatchRequestOptions).items()
    assert taken.keys() == BatchRequestOptions.__annotations__.keys() | fastapi.batches.DEFAULTS.keys()


def test_routers_and_responses_take_the_same_beside_the_request(fastapi: Any) -> None:
    """What one upload may be is said once: a limit or a type that one takes, the other takes too."""
    with pytest.raises(OptionError, match="max_rowz"):
        fastapi.batch_router("t", max_rowz=1)
    with pytest.raises(OptionError, match="max_rowz"):
        fastapi.batch_response(None, "t", None, max_rowz=1)


@pytest.mark.parametrize("name", [name for name in WRONG if REQUEST in TABLE[name].where])
def test_a_router_names_the_parameter(name: str, fastapi: Any) -> None:
    """When it is made, and never a flag."""
    with pytest.raises(OptionError) as caught:
        fastapi.batch_router("t", **{name: WRONG[name]})
    assert name in str(caught.value)
    assert "--" not in str(caught.value)


# `nested` is an option of the routers' own: it says how results are written.
ELSEWHERE = [name for name, info in TABLE.items() if REQUEST not in info.where and name != "nested"]


@pytest.mark.parametrize("name", ["chunk_sise", *ELSEWHERE])
def test_a_router_refuses_what_is_no_option_of_a_request(name: str, fastapi: Any) -> None:
    """A typing error, and what only files or clients have."""
    with pytest.raises(OptionError, match=name):
        fastapi.batch_router("t", **{name: 1})


def test_every_option_has_a_wrong_value_or_takes_anything() -> None:
    """A new option is tried in every face once its wrong value stands above."""
    anything = {
        "allow_duplicates",
        "ordered",
        "force_validation",
        "nested",
        "no_header",
        "journal",
        "sink",
        "stop",
        "watchers",
    }
    assert WRONG.keys() | anything == TABLE.keys()


def _input(folder: Path) -> Path:
    path = folder / "in.csv"
    path.write_text("id,n:int,label\na,1,x\nb,2,y\n")
    return path


def _python_says(name: str, folder: Path, where: str) -> str:
    fake = FakeLoopai()
    fake.task("t").returns(1)
    with fake.client() as client:

        def act() -> None:
            given = {name: WRONG[name]}
            if where == RUN:
                client.run_batch("t", _input(folder), folder / "out.jsonl", **given)
            else:
                list(client.batch_stream("t", _input(folder), **given))

        with pytest.raises(OptionError) as caught:
            act()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "where"), [(name, where) for name in WRONG for where in (STREAM, RUN) if where in TABLE[name].where]
)
def test_python_names_the_parameter(name: str, where: str, tmp_path: Path) -> None:
    """Never a flag."""
    said = _python_says(name, tmp_path, where)
    assert name in said
    assert "--" not in said


# What Python alone can give, and is none of the option's kind.
WRONG_KINDS: list[tuple[str, Any]] = [
    ("key", ["id"]),
    ("mapping", 5),
    ("mapping", "text=body"),
    ("mapping", [None]),
    ("mapping", {"text": 5}),
    ("expect", 5),
    ("journal", 5),
    ("stop", True),
    ("sink", "out.csv"),
    ("watchers", print),
    ("watchers", [print]),
    ("encoding", None),
    ("encoding", 5),
    ("delimiter", 5),
    ("quotechar", b'"'),
    ("escapechar", 5),
    ("comment", 5),
    ("sheet", 1),
    ("types", 5),
    ("types", "n=int"),
]


@pytest.mark.parametrize(("name", "value"), WRONG_KINDS)
def test_a_value_of_another_kind_is_refused(name: str, value: Any) -> None:
    """By the option's name, before anything is read."""
    with pytest.raises(OptionError, match=f"^{name} must be .*, not "):
        BatchOptions(**{name: value})


def test_a_mapping_that_can_be_read_once_is_kept() -> None:
    """It is read for the check, and for the run."""
    assert BatchOptions(mapping=iter(["a=b"])).mapping == ["a=b"]


def _flagged(name: str, value: Any) -> list[str]:
    flag = next(made for made in flags_of(CommandOptions, [FILE]) if made.name == name)
    texts = value if isinstance(value, list) else [value]
    return [part for text in texts for part in (flag.flags[0], text)]


def _is_a_flag(name: str) -> bool:
    return name != "mode" and (name not in TABLE or FILE in TABLE[name].where)


@pytest.mark.parametrize("name", [name for name in (*WRONG, *COMMANDS_OWN) if _is_a_flag(name)])
def test_the_command_line_names_the_flag(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was typed, with exit code 2, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    given = {**WRONG, **COMMANDS_OWN}[name]
    output = tmp_path / "out.jsonl"
    # Nothing is sent: neither by a dry run, nor before the options are checked.
    more = ["--base-url", "http://127.0.0.1:9", "--dry-run"]
    code = command_line(["batch", "t", str(_input(tmp_path)), "-o", str(output), *_flagged(name, given), *more])
    said = capsys.readouterr().err
    assert code == 2, said
    assert in_shell(name) in said
    assert not output.exists()
    assert not Path(f"{output}.journal").exists()


def test_modes_exclude_each_other_by_the_names_that_were_typed() -> None:
    """The three flags are one option."""
    with pytest.raises(OptionError) as caught:
        options_of(CommandOptions, {"task": "t", "resume": True, "overwrite": True})
    assert spelled(caught.value, in_shell) == "--resume and --overwrite exclude each other"
    assert spelled(caught.value, in_python) == 'mode="resume" and mode="overwrite" exclude each other'
    assert options_of(CommandOptions, {"task": "t", "retry_failed": True}).mode == "retry_failed"


def test_a_text_of_the_users_is_not_taken_for_an_option() -> None:
    """Braces in a value stay as they are."""
    error = OptionError("{mapping} {text!r}: no", text="{key}={overwrite}")
    assert error.spelled(in_shell) == "--map '{key}={overwrite}': no"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.spelled(in_shell)) == (str(error), error.spelled(in_shell))


def test_a_flag_with_an_alias_keeps_its_name() -> None:
    """`--id-field` is what `--key` was called."""
    flags = {made.name: made.flags for made in flags_of(CommandOptions, [FILE])}
    assert flags["key"] == ("--key", "--id-field")
    assert flags["version"] == ("--task-version",)
    assert flags["mapping"][0] == "--map"


def test_the_help_of_a_command_is_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Every flag, with the text of the table."""
    assert command_line(["batch", "--help"]) == 0
    said = " ".join(io.StringIO(capsys.readouterr().out).read().replace("│", " ").split())
    for flag in flags_of(CommandOptions, [FILE]):
        assert flag.flags[0] in said
        assert flag.info.help.split(" ")[0] in said
