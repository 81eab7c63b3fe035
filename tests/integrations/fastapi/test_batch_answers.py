"""What `batch_router` answers: other formats, options of uploads, routes of one's own, idle clients and shutdown."""

from __future__ import annotations

import csv
import gzip
import io
import json

import httpx
import pytest
from fastapi import FastAPI, Request, UploadFile
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from loopai.contrib.fastapi import (
    LoopaiDep,
    LoopaiLifespan,
    SyncLoopaiDep,
    batch_response,
    batch_router,
    get_loopai,
    get_sync_loopai,
    install_error_handlers,
    install_loopai,
)
from loopai.contrib.fastapi.testing import override_loopai

ROWS = [{"id": "a", "text": "one"}, {"id": "b", "text": ""}]


@pytest.fixture
def app(loopai_fake):
    loopai_fake.task("echo").computes(lambda given: {"upper": given["text"].upper()} if given["text"] else {"upper": 5})
    app = FastAPI()
    with override_loopai(app, loopai_fake):
        yield app


def test_events_as_lines_of_json(app) -> None:
    """Each line is an event; the last one is the summary."""
    app.include_router(batch_router("echo"))
    reply = TestClient(app).post("/batch?key=id", json=ROWS, headers={"accept": "application/x-ndjson"})
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert {line["key"]: line["output"] for line in lines if line["event"] == "result"} == {
        "a": {"upper": "ONE"},
        "b": {"upper": 5},
    }
    assert (lines[-1]["event"], lines[-1]["ended"]) == ("summary", "finished")


def test_results_as_csv(app) -> None:
    """One line a result, and the columns that are kept; a run that breaks off says so in its last line."""
    app.include_router(batch_router("echo", keep=["text"]))
    client = TestClient(app)
    whole = client.post("/batch?key=id", json=ROWS, headers={"accept": "text/csv;q=0.9, application/json"})
    found = {line["key"]: line for line in csv.DictReader(io.StringIO(whole.text))}
    assert json.loads(found["a"]["output"]) == {"upper": "ONE"}
    assert (found["a"]["columns.text"], set(found)) == ("one", {"a", "b"})
    broken = client.post("/batch?format=json", content=b'[{"text": "x"}, ', headers={"accept": "text/csv"})
    last = list(csv.DictReader(io.StringIO(broken.text)))[-1]
    assert (last["key"], last["status"], last["code"]) == ("", "error", "unreadable_upload")


@pytest.fixture
def described(app, loopai_fake):
    """The task with a schema of its output, and a member that the schema does not name."""
    schema = {"type": "object", "properties": {"upper": {"type": "string"}, "long": {}, "words": {}}}
    with loopai_fake.client() as client:
        client.create_task("judge", "…", {"type": "object"}, schema)
    loopai_fake.task("judge").computes(
        lambda given: {
            "words": given["text"].split(),
            "long": len(given["text"]) > 3,
            "upper": given["text"].upper(),
            "n": 1,
        }
    )
    return app


def test_csv_has_a_column_for_each_member_of_the_output(described) -> None:
    """In the schema's order, as CSV files have them; lists and booleans as JSON."""
    described.include_router(batch_router("judge", keep=["output.upper"]))
    client = TestClient(described)
    csv_wanted = {"accept": "text/csv"}
    rows = [{"text": "a bc", "output.upper": "kept"}, 5]
    reply = client.post("/batch", json=rows, headers=csv_wanted)
    header = next(csv.reader(io.StringIO(reply.text)))
    assert header[-4:] == ["columns.output.upper", "output.upper", "output.long", "output.words"]
    found = {line["key"]: line for line in csv.DictReader(io.StringIO(reply.text))}
    assert [found["1"][name] for name in header[-4:]] == ["kept", "A BC", "true", '["a","bc"]']
    assert json.loads(found["1"]["output"])["n"] == 1
    assert [found["2"][name] for name in ("status", *header[-3:])] == ["error", "", "", ""]
    bare = client.post("/batch?nested=true", json=rows, headers=csv_wanted)
    assert "output.upper" not in next(csv.reader(io.StringIO(bare.text)))
    events = client.post("/batch?nested=true&format=json", json=rows)
    assert '"upper":"A BC"' in events.text


def test_a_route_may_leave_the_columns_out(described) -> None:
    """Unless the request asks for them."""
    described.include_router(batch_router("judge", nested=True))
    client = TestClient(described)
    for query, wanted in (("", False), ("?nested=false", True)):
        reply = client.post(f"/batch{query}", json=[{"text": "a"}], headers={"accept": "text/csv"})
        assert ("output.upper" in reply.text.splitlines()[0]) is wanted


class Upper(BaseModel):
    upper: str


def test_an_output_of_another_type_is_that_row_s_error(app) -> None:
    """As an input of another type is."""
    app.include_router(batch_router("echo", output=Upper))
    reply = TestClient(app).post("/batch?key=id", json=ROWS, headers={"accept": "application/x-ndjson"})
    results = {each["key"]: each for each in map(json.loads, reply.text.splitlines()) if each["event"] == "result"}
    assert (results["a"]["status"], results["b"]["status"], results["b"]["code"]) == ("ok", "error", "unfit")
    assert "output" not in results["b"]


def test_a_row_that_is_too_long_ends_as_its_own_error(app) -> None:
    """The rows around it run."""
    app.include_router(batch_router("echo", max_row_bytes=100))
    rows = [{"text": "a"}, {"text": "x" * 200}, {"text": "b"}]
    for kind, body in (
        ("json", json.dumps(rows)),
        ("jsonl", "\n".join(map(json.dumps, rows))),
        ("csv", "text\na\n" + "x" * 200 + "\nb\n"),
    ):
        reply = TestClient(app).post(f"/batch?format={kind}", content=body, headers={"accept": "application/x-ndjson"})
        found = [each for each in map(json.loads, reply.text.splitlines()) if each["event"] == "result"]
        assert sorted(each["status"] for each in found) == ["error", "ok", "ok"]
        assert "longer than 100 bytes" in next(each["error"] for each in found if each["status"] == "error")


def test_a_csv_file_of_another_encoding(app) -> None:
    """By the router, or by the query; what is not an encoding of files is refused."""
    app.include_router(batch_router("echo", encoding="latin-1"))
    client = TestClient(app)
    for query, coding in (("", "latin-1"), ("&encoding=cp1252", "cp1252"), ("&encoding=utf-8", "utf-8")):
        reply = client.post(f"/batch?format=csv{query}", content="text\nä\n".encode(coding))
        assert '"upper":"Ä"' in reply.text
    for name in ("nonsense", "idna", "zip", "rot13", "unicode_escape"):
        assert client.post(f"/batch?format=csv&encoding={name}", content=b"text\na\n").status_code == 422


# An option as the query has it, as a router has it, and a file that needs it.
DIALECTS = {
    "skip_lines=2": ({"skip_lines": 2}, "A report\nof 2026\ntext\na\nb\n"),
    "comment=%23": ({"comment": "#"}, "# a report\ntext\na\n# between\nb\n"),
    "no_header=true": ({"no_header": True}, "a\nb\n"),
    "delimiter=~": ({"delimiter": "~"}, "id~text\n1~a\n2~b\n"),
    "quotechar='": ({"quotechar": "'"}, "id,text\n1,'a'\n2,'b'\n"),
    "escapechar=!": ({"escapechar": "!"}, 'id,text\n!"1,a\n2,b\n'),
    "types=id=int": ({"types": ["id=int"]}, "id,text\n1,a\n2,b\n"),
}


@pytest.mark.parametrize("query", DIALECTS)
def test_how_a_csv_file_is_written(loopai_fake, query) -> None:
    """The query says it, or the router, by the names of the one table of options."""
    loopai_fake.task("echo").computes(lambda given: given)
    options, body = DIALECTS[query]
    for own, asked in (({}, f"&{query}"), (options, "")):
        app = FastAPI()
        app.include_router(batch_router("echo", **own))
        with override_loopai(app, loopai_fake):
            reply = TestClient(app).post(
                f"/batch?format=csv{asked}", content=body, headers={"accept": "application/x-ndjson"}
            )
        found = [each["output"] for each in map(json.loads, reply.text.splitlines()) if each["event"] == "result"]
        assert sorted(output.get("text", output.get("column_1")) for output in found) == ["a", "b"]
        assert ("id" not in found[0]) or {type(output["id"]) for output in found} == {int if "types" in query else str}


@pytest.mark.parametrize(
    "query",
    ["skip_lines=-1", "skip_lines=x", "comment=", "delimiter=ab", "no_header=maybe", "types=n", "types=n=number"],
)
def test_a_wrong_option_in_the_query_is_422(app, query) -> None:
    """Before anything is run."""
    app.include_router(batch_router("echo"))
    reply = TestClient(app).post(f"/batch?format=csv&{query}", content=b"text\na\n")
    assert reply.status_code == 422
    assert query.partition("=")[0] in reply.text


def test_skipping_more_lines_than_there_are_ends_at_once(app) -> None:
    """Whatever number a request names."""
    app.include_router(batch_router("echo"))
    reply = TestClient(app).post(f"/batch?format=csv&skip_lines={10**18}", content=b"text\na\n")
    assert (reply.status_code, "the upload is empty" in reply.text) == (422, True)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_options_of_csv_do_not_pass_silently_with_another_format(app, kind) -> None:
    """A router's own are for its CSV files only."""
    app.include_router(batch_router("echo", skip_lines=1))
    body = b'[{"text": "a"}]' if kind == "json" else b'{"text": "a"}'
    client = TestClient(app)
    assert '"upper":"A"' in client.post(f"/batch?format={kind}", content=body).text
    reply = client.post(f"/batch?format={kind}&no_header=1", content=body)
    assert (reply.status_code, "no_header in the query: for CSV only" in reply.text) == (422, True)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_json_of_another_encoding(app, kind, encoding) -> None:
    """Found by its first bytes, or named by the query."""
    app.include_router(batch_router("echo"))
    text = '[\n{"text": "ä"}, {"text": "b"}]' if kind == "json" else '{"text": "ä"}\n{"text": "b"}\n'
    query = f"&encoding={encoding}" if encoding == "latin-1" else ""
    reply = TestClient(app).post(f"/batch?format={kind}{query}", content=text.encode(encoding))
    assert '"upper":"Ä"' in reply.text
    assert '"upper":"B"' in reply.text


def test_json_that_is_not_in_its_encoding(app) -> None:
    """Is refused with a text that says so."""
    app.include_router(batch_router("echo"))
    body = b'[{"text": "a"}, {"text": "\xe4"}]'
    reply = TestClient(app).post("/batch?format=json&encoding=ascii", content=body)
    assert reply.status_code == 422
    assert "the upload is not ascii" in reply.text


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"PAR1" + b"\0" * 300, "a Parquet file"),
        (b"%PDF-1.4\n" + b"x" * 300, "a PDF"),
        (b"<html><body>Sign in</body></html>", "HTML"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "an Excel workbook before 2007"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 300, "an image"),
    ],
)
def test_an_upload_of_another_format_is_refused_by_name(app, kind, pack, body, told) -> None:
    """Whatever it is said to be: it is not read as a header without rows."""
    app.include_router(batch_router("echo"))
    reply = TestClient(app).post(f"/batch?format={kind}", content=pack(body))
    assert (reply.status_code, told in reply.json()["detail"]) == (415, True)


@pytest.mark.parametrize(
    "body", [b'[{"text": "a"}]', b'{"text": "a"}\n{"text": "b"}\n', b'\xef\xbb\xbf[{"text": "a"}]']
)
def test_json_that_is_said_to_be_csv_is_refused(app, body) -> None:
    """Its first row would be the header."""
    app.include_router(batch_router("echo"))
    reply = TestClient(app).post("/batch", content=body, headers={"content-type": "text/csv"})
    assert (reply.status_code, "looks like JSON" in reply.json()["detail"]) == (422, True)


@pytest.mark.parametrize("length", [71, 200, 201, 300, 5000])
def test_a_form_boundary_of_any_length_is_answered(app, length) -> None:
    """Read, or refused with a status."""
    app.include_router(batch_router("echo"))
    boundary = "b" * length
    part = 'Content-Disposition: form-data; name="f"; filename="a.csv"'
    body = f"--{boundary}\r\n{part}\r\n\r\ntext\r\na\r\n--{boundary}--\r\n"
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    reply = TestClient(app).post("/batch", content=body, headers=headers)
    assert ("event: summary" in reply.text) == (length <= 200)
    assert reply.status_code == (200 if length <= 200 else 422)


def test_headers_of_a_part_are_bounded(app) -> None:
    """By our own reader, whatever python-multipart's version bounds."""
    app.include_router(batch_router("echo"))
    body = b"--b\r\n" + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 3000) for number in range(7)) + b"\r\n"
    reply = TestClient(app).post("/batch", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert (reply.status_code, "headers of a part" in reply.json()["detail"]) == (422, True)


def test_an_upload_that_sends_nothing_gives_its_place_back(loopai_fake, serve) -> None:
    """After `idle_timeout`, with 408, as nothing has run."""
    app = FastAPI()
    app.include_router(batch_router("echo", idle_timeout=0.2, max_runs=1))
    loopai_fake.task("echo").computes(lambda given: given)
    with override_loopai(app, loopai_fake):
        served = serve(app)
        with served.connect() as idle:
            idle.sendall(b"POST /batch?format=json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")
            assert b" 408 " in idle.recv(65536)
        served.wait_until_idle()
        assert httpx.post(f"{served.url}/batch", json=[{"a": 1}]).status_code == 200


def test_a_route_of_one_s_own(app) -> None:
    """Which decides itself what is run, and refuses what it likes."""

    @app.post("/mine/{task}")
    async def mine(task: str, request: Request, ai: LoopaiDep):
        return batch_response(ai, task, request, key="id", keep=["text"])

    reply = TestClient(app).post("/mine/echo", json=ROWS)
    assert ('"upper":"ONE"' in reply.text, "event: summary" in reply.text) == (True, True)


def test_an_upload_s_file_in_a_route_of_one_s_own(app) -> None:
    """Of which a client of either kind reads the rows."""

    @app.post("/count")
    async def count(upload: UploadFile, ai: LoopaiDep):
        return [each.output async for each in ai.batch_stream("echo", upload.file, format="csv")]

    @app.post("/count-in-thread")
    def count_in_thread(upload: UploadFile, ai: SyncLoopaiDep):
        return [each.output for each in ai.batch_stream("echo", upload.file, format="csv")]

    for path in ("/count", "/count-in-thread"):
        reply = TestClient(app).post(path, files={"upload": ("a.csv", b"text\na\nb\n", "text/csv")})
        assert sorted(each["upper"] for each in reply.json()) == ["A", "B"]


@pytest.mark.parametrize("added", ["as the lifespan", "later"])
def test_plain_starlette(loopai_fake, added) -> None:
    """The lifespan, both clients, batches and problem documents work without FastAPI's routes."""
    loopai_fake.task("echo").computes(lambda given: given)
    loopai_fake.task("absent").raises(404)

    async def batch(request):
        return batch_response(await get_loopai(request), "echo", request, max_bytes=100)

    async def check(request):
        result = await (await get_loopai(request)).execute(request.path_params["task"], "in a loop")
        return JSONResponse(result.output)

    async def check_in_thread(request):
        client = await get_sync_loopai(request)
        return JSONResponse((await run_in_threadpool(client.execute, "echo", "in a thread")).output)

    routes = [
        Route("/batch", batch, methods=["POST"]),
        Route("/check/{task}", check),
        Route("/check-in-thread", check_in_thread),
    ]
    if added == "later":
        app = Starlette(routes=routes)
        install_loopai(app, loopai_fake)
    else:
        app = Starlette(routes=routes, lifespan=LoopaiLifespan(loopai_fake))
    install_error_handlers(app)
    with TestClient(app) as client:
        assert "event: summary" in client.post("/batch", json=ROWS).text
        assert client.get("/check/echo").json() == "in a loop"
        assert client.get("/check-in-thread").json() == "in a thread"
        refused = client.post("/batch", json=ROWS * 10)
        absent = client.get("/check/absent")
    for reply, status in ((refused, 413), (absent, 404)):
        assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
        assert reply.json()["status"] == status


def test_two_routers_of_one_application_have_names_of_their_own(app) -> None:
    """So that neither addresses nor the document's operations clash."""
    for name in ("spam", "tone"):
        app.include_router(batch_router("echo", path=f"/{name}", name=name, tags=[name]))
    paths = app.openapi()["paths"]
    assert {paths[f"/{name}"]["post"]["tags"][0] for name in ("spam", "tone")} == {"spam", "tone"}
    assert app.url_path_for("tone") == "/tone"
