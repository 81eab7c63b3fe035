"""`batch_router`: rows or a file in, results as server-sent events out."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import json
import lzma
import select
import socket
from dataclasses import dataclass
from typing import Any, Optional
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field, SecretStr, TypeAdapter
from starlette.middleware import base
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse

from loopai import NotFoundException, ServerException
from loopai.contrib.fastapi import LoopaiLifespan, LoopaiSettings, Problem, batch_router, install_error_handlers
from loopai.contrib.fastapi.batch_events import BatchProgress, BatchQuality, BatchResult, BatchSummary
from loopai.contrib.fastapi.events import ENOUGH_WAITING, IN_MEMORY, Outbox, event
from loopai.contrib.fastapi.testing import override_loopai, running
from loopai.testing import ProgramError

ROWS = [{"id": f"r{number}", "text": text} for number, text in enumerate(["a", 'q"uo\\te', "[{,}]", "ü\n", ""])]


@dataclass
class Event:
    name: str
    data: Any
    id: str | None = None


def events_of(text: str) -> list[Event]:
    """What a reader of server-sent events sees: comments are passed over."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append(Event(fields["event"], json.loads(fields["data"]), fields.get("id")))
    return found


def named(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event.name == name]


def test_the_clients_option_holds_for_uploads(loopai_fake, monkeypatch):
    """A row that does not fit the task's schema is an event like any other, and is not sent."""
    pytest.importorskip("jsonschema_rs")
    monkeypatch.setenv("LOOPAI_VALIDATE_INPUTS", "true")
    assert LoopaiSettings().validate_inputs is True
    task = loopai_fake.task("echo").takes({"required": ["text"]}).returns("x")
    app = FastAPI()
    app.include_router(batch_router("echo"))
    with override_loopai(app, loopai_fake):
        reply = TestClient(app).post("/batch", json=[{"text": "a"}, {"texts": "b"}])
    results = {event.data["key"]: event.data for event in named(events_of(reply.text), "result")}
    assert results["1"]["status"] == "ok"
    assert (results["2"]["status"], results["2"]["error"]) == ("error", 'input.text: "text" is a required property')
    assert task.inputs == [{"text": "a"}]


@pytest.fixture
def client(loopai_fake):
    """An application whose task puts texts into capitals."""

    def capitals(given):
        if given["text"] == "":
            raise ProgramError("nothing there")
        return {"upper": given["text"].upper()}

    loopai_fake.task("echo").computes(capitals)
    app = FastAPI()
    app.include_router(batch_router("echo"))
    with override_loopai(app, loopai_fake):
        yield TestClient(app)


def as_jsonl(rows) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


CSV = b'id,text\nr0,a\nr1,"q""uo\\te"\nr2,"[{,}]"\nr3,"\xc3\xbc\n"\nr4,\n'


@pytest.mark.parametrize(
    "posted",
    [
        {"json": ROWS},
        {"content": json.dumps(ROWS, indent=2), "headers": {"content-type": "application/json; charset=utf-8"}},
        {"content": as_jsonl(ROWS), "headers": {"content-type": "application/x-ndjson"}},
        {"content": CSV, "headers": {"content-type": "text/csv"}},
        {"content": gzip.compress(CSV), "headers": {"content-type": "text/csv", "content-encoding": "gzip"}},
        {"content": gzip.compress(json.dumps(ROWS).encode()), "headers": {"content-type": "application/json"}},
        {"content": as_jsonl(ROWS), "params": {"key": "id", "format": "jsonl"}},
        {"files": {"file": ("mails.csv", CSV)}},
        {"files": {"file": ("MAILS.JSONL.GZ", gzip.compress(as_jsonl(ROWS)), "application/gzip")}},
        {"files": {"file": ("mails", json.dumps(ROWS), "application/json")}, "data": {"note": "x" * 100}},
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="empty"; filename=""\r\n\r\n\r\n'
            b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename*=utf-8''m%C3%A4ils.csv\r\n\r\n"
            + CSV
            + b'\r\n--b\r\nContent-Disposition: form-data; name="note"\r\n\r\n1\r\n--b--\r\n',
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
    ],
    ids=[
        "json",
        "indented",
        "jsonl",
        "csv",
        "csv.gz",
        "json.gz",
        "format",
        "form csv",
        "form jsonl.gz",
        "form json",
        "form of an empty and a file with a name that is not ASCII",
    ],
)
def test_rows_in_any_format_come_back_as_events(client, posted) -> None:
    """A result for each, with its key as id; then the summary."""
    reply = client.post("/batch", **{"params": {"key": "id"}, **posted})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-store"
    events = events_of(reply.text)
    results = {event.id: event.data for event in named(events, "result")}
    assert {key: told.get("output") for key, told in results.items()} == {
        "r0": {"upper": "A"},
        "r1": {"upper": 'Q"UO\\TE'},
        "r2": {"upper": "[{,}]"},
        "r3": {"upper": "Ü\n"},
        "r4": None,
    }
    assert (results["r4"]["status"], results["r4"]["code"]) == ("error", "program")
    assert "nothing there" in results["r4"]["error"]
    assert events[-1].name == "summary"
    summary = events[-1].data
    assert (summary["ended"], summary["rows"], summary["ok"], summary["errors"]) == ("finished", 5, 4, 1)
    progress = named(events, "progress")[-1].data
    assert (progress["read"], progress["done"], progress["errors"]) == (5, 5, 1)


def test_rows_without_a_key_are_numbered_from_where_one_likes(client) -> None:
    """So that a file can be posted in parts."""
    for first, keys in ((None, {"1", "2"}), (101, {"101", "102"})):
        params = {} if first is None else {"first": first}
        events = events_of(client.post("/batch", json=ROWS[:2], params=params).text)
        assert {event.id for event in named(events, "result")} == keys


async def post_in_parts(app, body: bytes, size: int, media_type: str) -> httpx.Response:
    """Send a body in parts of that size."""

    async def parts():
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return await client.post("/batch", content=parts(), headers={"content-type": media_type})


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_a_json_array_may_be_cut_anywhere(loopai_fake, size, pack) -> None:
    """In the middle of an escape, of a character of several bytes, of a number."""
    rows = [*ROWS, {"id": "r5", "text": 'e\\"\\\\', "more": [1.5e3, {"deep": ["]", "}"]}]}]
    loopai_fake.task("echo").computes(lambda given: given)
    app = FastAPI()
    app.include_router(batch_router("echo"))
    body = pack(("\ufeff \r\n" + json.dumps(rows, ensure_ascii=False) + " \n").encode())
    with override_loopai(app, loopai_fake):
        reply = await post_in_parts(app, body, size, "application/json")
    found = [event.data["output"] for event in named(events_of(reply.text), "result")]
    assert sorted(found, key=lambda row: row["id"]) == rows


@pytest.mark.parametrize("size", [1, 7])
async def test_a_form_s_file_may_be_cut_anywhere(loopai_fake, size) -> None:
    """Boundaries, headers and the packed file."""
    loopai_fake.task("echo").computes(lambda given: given)
    app = FastAPI()
    app.include_router(batch_router("echo"))
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="mails.csv.gz"\r\n\r\n'
    with override_loopai(app, loopai_fake):
        body = head + gzip.compress(CSV) + b"\r\n--b--\r\n"
        reply = await post_in_parts(app, body, size, "multipart/form-data; boundary=b")
    assert {event.data["output"]["id"] for event in named(events_of(reply.text), "result")} == {
        row["id"] for row in ROWS
    }


@pytest.mark.parametrize(
    ("media_type", "body", "told"),
    [
        ("application/json", b'{"id": 1}', "not a JSON array of rows"),
        ("application/json", b"", "not a JSON array of rows"),
        ("application/json", b"12", "not a JSON array of rows"),
        ("application/json", b'[{"text": "a"}', "ends in the middle"),
        ("application/json", b'[{"text": "a"}] []', "not a JSON array of rows"),
        ("application/json", gzip.compress(b'[{"text": "a"},' + b" " * 500)[:-12], "ends in the middle"),
        ("text/csv", b"", "the upload is empty"),
        ("text/csv", b"a,a\n1,2\n", "names the column 'a' twice"),
        ("multipart/form-data", b"", "names no boundary"),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense", "form"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n',
            "the form has no file",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"; filename="a.xls"\r\n\r\n1\r\n--b--\r\n',
            "name the file .csv",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"; filename="a.csv"\r\n\r\nid,text\r\n1,a\r\n',
            "the form ends in the middle",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"; filename="a.csv"\r\n\r\nid,text\r\n1,a\r\n'
            b'--b\r\nContent-Disposition: form-data; name="y"; filename="b.csv"\r\n\r\nid,text\r\n2,b\r\n--b--\r\n',
            "the form has more than one file: send each in a request of its own",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"; filename=""\r\n\r\n\r\n--b--\r\n',
            "the form has no file",
        ),
    ],
)
def test_what_cannot_be_read_is_answered_before_anything_is_sent(client, media_type, body, told) -> None:
    """With a status and a problem that says what is wrong; once a row has run, as an event before the summary."""
    reply = client.post("/batch", content=body, headers={"content-type": media_type})
    if reply.status_code == 200:
        events = events_of(reply.text)
        problem = named(events, "error")[0].data
        assert named(events, "result")
        assert (events[-1].name, events[-1].data["ended"]) == ("summary", "unreadable_upload")
    else:
        problem = reply.json()
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.status_code == problem["status"]
    assert (problem["title"], problem["status"]) == ("The upload cannot be read", 415 if "name the" in told else 422)
    assert told in problem["detail"]


def test_the_rows_before_what_cannot_be_read_are_run(loopai_fake) -> None:
    """All of them: a broken end takes no result away. Nor does a row too many."""
    loopai_fake.task("echo").computes(lambda given: given)
    app = FastAPI()
    app.include_router(batch_router("echo", max_rows=250))
    rows = json.dumps([{"text": "a"}] * 250)
    with override_loopai(app, loopai_fake):
        for rest, told in ((", {", "ends in the middle"), (", {}]", "more than 250 rows")):
            reply = TestClient(app).post("/batch", content=rows[:-1] + rest, params={"format": "json"})
            events = events_of(reply.text)
            assert {event.id for event in named(events, "result")} == {str(number) for number in range(1, 251)}
            assert told in named(events, "error")[0].data["detail"]
            assert (events[-1].data["ended"], events[-1].data["ok"]) == ("unreadable_upload", 250)


def test_a_row_that_cannot_be_read_is_that_row_s_error(client) -> None:
    """The others run."""
    reply = client.post("/batch", content=b'[{"text": "a"}, 7, {"text": nonsense}, {"text": "b"}]',
                        headers={"content-type": "application/json"})  # fmt: skip
    results = {event.id: event.data for event in named(events_of(reply.text), "result")}
    assert {key: told["status"] for key, told in results.items()} == {"1": "ok", "2": "error", "3": "error", "4": "ok"}
    assert "row 2 is a JSON number" in results["2"]["error"]
    assert "row 3 is not JSON" in results["3"]["error"]


def test_other_types_and_sizes_are_refused_with_a_status(loopai_fake) -> None:
    """Before anything runs."""
    app = FastAPI()
    app.include_router(batch_router("echo", max_bytes=1000, max_rows=3))
    loopai_fake.task("echo").computes(lambda given: given)
    with override_loopai(app, loopai_fake):
        client = TestClient(app)
        assert client.post("/batch", content=b"%PDF", headers={"content-type": "application/pdf"}).status_code == 415
        assert client.post("/batch", content=b"rows").status_code == 415
        assert client.post("/batch", params={"format": "xml"}, content=b"<a/>").status_code == 422
        assert client.post("/batch", json=[{"text": "x" * 1000}]).status_code == 413
        # Neither length nor number of rows is known beforehand.
        large = client.post(
            "/batch", content=(b"[" + b'{"text": 1},' * 50 for _ in range(9)), params={"format": "json"}
        )
        assert "larger than 1,000 bytes" in (
            large.text if large.status_code == 413 else events_of(large.text)[-3].data["detail"]
        )
        many = client.post("/batch", json=[{}] * 4)
        assert "more than 3 rows" in named(events_of(many.text), "error")[0].data["detail"]


class Mail(BaseModel):
    text: str


def test_rows_become_the_input_that_the_router_is_for(loopai_fake) -> None:
    """Mapped and checked; the other columns are kept beside the result, and the accuracy counted."""
    loopai_fake.task("echo").computes(lambda given: {"label": "spam" if "prize" in given["text"] else "ham"})
    app = FastAPI()
    router = batch_router("echo", input=Mail, mapping=["text=body"], keep=["subject", "absent"], expect="label")
    app.include_router(router, prefix="/mail")
    rows = [
        {"body": "a prize", "subject": "one", "label": "spam"},
        {"body": "a prize", "subject": "two", "label": "ham"},
        {"body": 7, "subject": "three", "label": "ham"},
        {"subject": "four"},
    ]
    with override_loopai(app, loopai_fake):
        events = events_of(TestClient(app).post("/mail/batch", json=rows).text)
    results = {event.id: event.data for event in named(events, "result")}
    assert loopai_fake.task("echo").inputs == [{"text": "a prize"}] * 2
    assert results["1"]["columns"] == {"subject": "one"}
    assert (results["3"]["code"], results["3"]["error"]) == ("unfit", "line 3: text: Input should be a valid string")
    assert (results["4"]["code"], results["4"]["status"]) == ("unmapped", "error")
    assert named(events, "progress")[-1].data["accuracy"] == 0.5
    assert events[-1].data["quality"]["confusion"] == [[0, 1], [0, 1]]


class Hiding(BaseModel):
    tags: Optional[set[str]] = None
    key: Optional[SecretStr] = None


def test_an_input_that_json_cannot_say_is_its_row_s_error(loopai_fake) -> None:
    """What the router's type makes of a row is checked as all inputs are."""
    loopai_fake.task("echo").computes(lambda given: given)
    app = FastAPI()
    app.include_router(batch_router("echo", input=list[Hiding], mapping=["=rows"]))
    rows = [{"rows": []}, {"rows": [{"tags": ["b", "a"]}]}, {"rows": [{"key": "hush"}]}]
    with override_loopai(app, loopai_fake):
        text = TestClient(app).post("/batch", json=rows).text
    results = {event.id: event.data for event in named(events_of(text), "result")}
    assert loopai_fake.task("echo").inputs == [[]]
    assert results["2"]["code"] == results["3"]["code"] == "unsendable"
    assert results["2"]["error"] == "line 2: input[0].tags cannot be sent as JSON: a set has no order: pass a list"
    assert "hush" not in text


def test_a_key_that_recurs_is_an_error_of_the_second_row(client) -> None:
    """Its result would be taken for the first one's."""
    events = events_of(client.post("/batch", json=[ROWS[0], ROWS[0]], params={"key": "id"}).text)
    assert [event.data.get("code") for event in named(events, "result")].count("duplicate") == 1


@pytest.mark.parametrize(
    ("error", "status", "ended"),
    [(NotFoundException("no such task"), 404, "fatal_error"), (ServerException("at Db.Open()"), 502, "unreachable")],
)
def test_a_run_that_cannot_go_on_says_so_and_shows_nothing_of_the_upstream(
    error, status, ended, server, body_of
) -> None:
    """With a status if no row has run; else with the rest of the rows as cancelled, to be posted again."""
    code = {404: "404 Not Found", 502: "302 Found"}[status]
    to_answer = 0

    async def refuse(asked, wire) -> None:
        nonlocal to_answer
        to_answer -= 1
        if to_answer >= 0:
            await wire.answer(results_of(asked))
        else:
            body = b'{"code":"TASK_NOT_FOUND","message":"Task not found"}'
            await wire.answer(body, code, location="http://internal.test")

    server.behaviour = refuse
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(base_url=server.url)))
    app.include_router(batch_router(uuid4(), chunk_size=1, max_in_flight=1))
    with TestClient(app) as client:
        refused = client.post("/batch", json=ROWS)
        to_answer = 1
        broken_off = client.post("/batch", json=ROWS)
    assert (refused.status_code, refused.json()["status"]) == (status, status)
    events = events_of(broken_off.text)
    assert named(events, "error")[0].data["status"] == status
    statuses = [event.data["status"] for event in named(events, "result")]
    assert (statuses[0], set(statuses[1:])) == ("ok", {"cancelled"})
    assert events[-1].data["ended"] in {ended, "fatal_error"}
    for text in (refused.text, broken_off.text):
        assert "internal.test" not in text
        assert server.url not in text


class Attachment(BaseModel):
    name: str
    within: list[Attachment] = []


class Letter(BaseModel):
    text: str
    attachments: list[Attachment] = []


def operation_of(app: FastAPI) -> Any:
    return app.openapi()["paths"]["/batch"]["post"]


def row_of(app: FastAPI) -> Any:
    return operation_of(app)["requestBody"]["content"]["application/json"]["schema"]["items"]


def test_the_openapi_document_says_what_to_send() -> None:
    """Rows of the input's own shape, whatever is in it, or a file in each format."""
    app = FastAPI()
    app.include_router(batch_router("echo", input=Letter))
    body = operation_of(app)["requestBody"]
    models = app.openapi()["components"]["schemas"]
    assert body["required"] is True
    assert set(body["content"]) == {"application/json", "application/x-ndjson", "text/csv", "multipart/form-data"}
    assert body["content"]["application/json"]["schema"]["type"] == "array"
    assert row_of(app) == {"$ref": "#/components/schemas/Letter"}
    assert models["Letter"]["properties"]["attachments"]["items"] == {"$ref": "#/components/schemas/Attachment"}
    assert models["Attachment"]["properties"]["within"]["items"] == {"$ref": "#/components/schemas/Attachment"}
    form = body["content"]["multipart/form-data"]["schema"]
    assert (form["required"], form["properties"]["file"]["format"]) == (["file"], "binary")


def test_the_openapi_document_has_the_columns_that_the_input_is_made_of() -> None:
    """A row is not the input then; without any type it is an object."""
    mapped, plain = FastAPI(), FastAPI()
    mapped.include_router(batch_router("echo", input=Letter, mapping=["text=body", "attachments=mail.files"]))
    plain.include_router(batch_router("echo"))
    assert (row_of(mapped)["required"], set(row_of(mapped)["properties"])) == (["body"], {"body"})
    assert row_of(plain)["type"] == "object"


def references_of(document: Any) -> set[str]:
    if isinstance(document, dict):
        own = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
        return own.union(*(references_of(each) for each in document.values()))
    return set().union(*(references_of(each) for each in document)) if isinstance(document, list) else set()


def test_the_openapi_document_says_what_comes_back() -> None:
    """Each event, and what its data are; a refusal before the first is a JSON object."""
    app = FastAPI()
    app.include_router(batch_router("echo", max_bytes=2000), prefix="/mail")
    install_error_handlers(app)
    responses = app.openapi()["paths"]["/mail/batch"]["post"]["responses"]
    models = app.openapi()["components"]["schemas"]
    stream = responses["200"]["content"]["text/event-stream"]["schema"]
    events = {each["$ref"].rpartition("/")[2] for each in stream["items"]["anyOf"]}
    assert stream["type"] == "array"
    assert {models[name]["properties"]["event"]["const"] for name in events} == {
        "result", "progress", "error", "summary"
    }  # fmt: skip
    assert models["ResultEvent"]["properties"]["data"] == {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/BatchResult"},
    }
    assert references_of(app.openapi()) <= {f"#/components/schemas/{name}" for name in models}
    assert set(responses) == {"200", "408", "413", "415", "422", "502", "503"}
    assert set(responses["200"]["content"]) == {"text/event-stream", "application/x-ndjson", "text/csv"}
    assert "2,000 bytes" in responses["413"]["description"]
    assert "Retry-After" in responses["503"]["headers"]


class Tone(BaseModel):
    tone: str = Field(alias="Tone")


def test_the_openapi_document_has_the_outputs_of_each_router() -> None:
    """Whatever their types are, each in the results of its own route."""
    app = FastAPI()
    for name, output in (("letter", Letter), ("tone", Tone), ("texts", list[str]), ("any", None)):
        app.include_router(batch_router("echo", path=f"/{name}", name=name, output=output))
    models = app.openapi()["components"]["schemas"]

    def output_of(name: str) -> Any:
        content = app.openapi()["paths"][f"/{name}"]["post"]["responses"]["200"]["content"]
        events = [each["$ref"].rpartition("/")[2] for each in content["text/event-stream"]["schema"]["items"]["anyOf"]]
        (result,) = (models[each] for each in events if models[each]["properties"]["event"]["const"] == "result")
        schema = models[result["properties"]["data"]["contentSchema"]["$ref"].rpartition("/")[2]]
        assert schema["required"] == ["key", "status"]
        return schema["properties"]["output"]

    for name, model in (("letter", "Letter"), ("tone", "Tone")):
        output = output_of(name)
        # Beside a description older versions of pydantic write it as a part of the whole.
        assert references_of(output) == {f"#/components/schemas/{model}"}
    assert (output_of("texts")["type"], output_of("texts")["items"]) == ("array", {"type": "string"})
    assert "type" not in output_of("any")
    assert references_of(app.openapi()) <= {f"#/components/schemas/{name}" for name in models}


def test_events_are_as_the_openapi_document_says(loopai_fake) -> None:
    """Nothing missing, and nothing that it does not name."""
    loopai_fake.task("echo").computes(lambda given: {"label": given["text"]})
    app = FastAPI()
    app.include_router(batch_router("echo", input=Mail, keep=["id"], expect="label"))
    rows = [{"id": 1, "text": "spam", "label": "ham"}, {"id": 2, "label": "ham"}, {"id": 3, "text": "ham"}]
    with override_loopai(app, loopai_fake):
        text = TestClient(app).post("/batch", content=json.dumps(rows)[:-1] + ", ", params={"format": "json"}).text
    events = events_of(text)
    types: dict[str, Any] = {
        "result": BatchResult, "progress": BatchProgress, "error": Problem, "summary": BatchSummary
    }  # fmt: skip
    assert {each.name for each in events} == set(types)
    for each in events:
        of_type = types[each.name]
        assert set(each.data) <= set(of_type.__annotations__)
        TypeAdapter(of_type).validate_python(each.data, strict=True)
    quality = events[-1].data["quality"]
    assert set(quality) == set(BatchQuality.__annotations__)
    assert set(events[-1].data) == set(BatchSummary.__annotations__)
    assert set(named(events, "progress")[-1].data) == set(BatchProgress.__annotations__)


# With real sockets


def results_of(asked, output=None) -> bytes:
    """The reply to a batch request, each item's output its input or `output`."""
    request = json.loads(asked.body)
    items = request["items"]
    results = [
        {"id": item["id"], "success": True, "output": output or item["input"], "latency_ms": 0.1} for item in items
    ]
    now = "2025-11-03T08:16:05Z"
    return json.dumps(
        {
            "batch_id": str(uuid4()), "task_id": request["task_id"], "version": 1, "total_items": len(items),
            "success_count": len(items), "failure_count": 0, "total_duration_ms": 1, "avg_latency_ms": 0.1,
            "results": results, "started_at": now, "completed_at": now,
        }
    ).encode()  # fmt: skip


async def echo(asked, wire) -> None:
    await wire.answer(results_of(asked))


async def hang(asked, wire) -> None:
    await wire.hang()


@pytest.fixture
def application(server, task):
    """Makes an application on the raw server, which echoes batches."""
    server.behaviour = echo

    def make(**options) -> FastAPI:
        app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(base_url=server.url, tasks={"echo": task})))
        app.include_router(batch_router("echo", **options))
        return app

    return make


class Posting:
    """A client that sends and reads as the test says."""

    def __init__(self, connection: socket.socket, query: str = "") -> None:
        self.connection = connection
        self.text = ""
        self._raw = b""
        head = f"POST /batch{query} HTTP/1.1\r\nHost: app\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def send_rows(self, rows) -> None:
        self.send(as_jsonl(rows) + b"\n")

    def end(self) -> None:
        self.connection.sendall(b"0\r\n\r\n")

    def read_until(self, wanted) -> None:
        while not wanted(self):
            data = self.connection.recv(65536)
            assert data, self.text
            self.text += data.decode("utf-8", "replace")

    @property
    def keys(self) -> set[str]:
        return {line[4:].strip() for line in self.text.split("\n") if line.startswith("id: ")}


def test_results_come_while_the_upload_is_still_coming(application, serve) -> None:
    """A client that writes and reads at the same time has an answer to each row before it sends the next."""
    served = serve(application())
    with served.connect() as connection:
        posting = Posting(connection, "?key=id")
        for number in range(3):
            posting.send_rows([{"id": f"k{number}"}])
            posting.read_until(lambda each, number=number: f"k{number}" in each.keys)
        posting.end()
        posting.read_until(lambda each: "event: summary" in each.text)


def test_a_client_that_reads_only_after_its_upload_is_no_deadlock(application, serve, server) -> None:
    """As browsers and most HTTP libraries do; what waits for it meanwhile is more than sockets hold."""
    output = {"text": "x" * 20_000}

    async def large(asked, wire) -> None:
        await wire.answer(results_of(asked, output))

    server.behaviour = large
    served = serve(application())
    rows = [{"id": str(number), "text": "y" * 5000} for number in range(2000)]
    reply = httpx.post(f"{served.url}/batch?key=id", content=as_jsonl(rows), timeout=60,
                       headers={"content-type": "application/jsonl"})  # fmt: skip
    events = events_of(reply.text)
    assert events[-1].data["ok"] == 2000, [events[-1], *named(events, "error")]
    assert {event.id for event in named(events, "result")} == {row["id"] for row in rows}


def test_back_pressure_reaches_the_upload(application, serve, server) -> None:
    """While the server is busy with the first rows, the client cannot send on; then it can."""
    server.behaviour = hang
    served = serve(application())
    line = as_jsonl([{"text": "y" * 10_000}]) + b"\n"
    with served.connect() as connection:
        Posting(connection)
        connection.setblocking(False)
        sent, chunk = 0, b"%x\r\n%s\r\n" % (len(line), line)
        waiting, most = b"", 200_000_000
        while sent < most:
            _, writable, _ = select.select([], [connection], [], 1.0)
            if not writable:
                break
            waiting = waiting or chunk
            count = connection.send(waiting)
            waiting = waiting[count:]
            sent += count
        # What sockets, server and rows in flight hold; the rest of the 200 MB waits at the client.
        assert sent < 40_000_000
        server.behaviour = echo
        server.close_connections()  # the hanging requests are repeated
        assert select.select([], [connection], [], 20.0)[1]


@pytest.mark.parametrize("when", ["during the upload", "after the upload"])
def test_a_disconnect_cancels_the_upstream_work(application, serve, server, when, caplog) -> None:
    """Requests end, their connections close, and the place for a batch is free again."""
    server.behaviour = hang
    served = serve(application(max_runs=1))
    for _ in range(3):
        with served.connect() as connection:
            posting = Posting(connection)
            posting.send_rows([{"text": "a"}] * 250)
            if when == "after the upload":
                posting.end()
            server.wait_until(lambda: server.in_flight >= 2)
            refused = httpx.post(f"{served.url}/batch", json=[])
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        server.wait_until(lambda: server.in_flight == 0 and server.open == 0)
        served.wait_until_idle()
    server.behaviour = echo
    assert httpx.post(f"{served.url}/batch", json=[{"text": "a"}]).status_code == 200
    assert caplog.records == []


@pytest.mark.skipif(
    issubclass(base._StreamingResponse, StreamingResponse),
    reason="an old Starlette's middleware receives, to see disconnects, and loses what is uploaded meanwhile",
)
def test_behind_middleware(application, serve, server, caplog) -> None:
    """Starlette's own base class wraps what is received; results come during the upload, a disconnect ends the run."""

    async def pass_on(request, call_next):
        return await call_next(request)

    app = application()
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    served = serve(app)
    with served.connect() as connection:
        posting = Posting(connection, "?key=id")
        for number in range(3):
            posting.send_rows([{"id": f"k{number}"}])
            posting.read_until(lambda each, number=number: f"k{number}" in each.keys)
        posting.end()
        posting.read_until(lambda each: "event: summary" in each.text)
    server.behaviour = hang
    for whole in (False, True):
        with served.connect() as connection:
            posting = Posting(connection)
            posting.send_rows([{"text": "a"}] * 250)
            if whole:
                posting.end()
            server.wait_until(lambda: server.in_flight >= 2)
        server.wait_until(lambda: server.in_flight == 0 and server.open == 0)
        served.wait_until_idle()
    assert caplog.records == []


def test_a_client_resumes_by_posting_the_missing_rows(application, serve, server) -> None:
    """Those whose ids it has not seen; none is lost, and those it has are not run again."""
    served = serve(application(chunk_size=10, max_in_flight=1))
    rows = [{"id": f"k{number}"} for number in range(100)]
    answered = []

    async def three_chunks(asked, wire) -> None:
        if len(answered) == 3:
            await wire.hang()
        answered.append(asked)
        await wire.answer(results_of(asked))

    server.behaviour = three_chunks
    with served.connect() as connection:
        posting = Posting(connection, "?key=id")
        posting.send_rows(rows)
        posting.read_until(lambda each: len(each.keys) >= 30 and each.text.endswith("\r\n"))
        seen = posting.keys
    assert len(seen) == 30
    server.behaviour = echo
    missing = [row for row in rows if row["id"] not in seen]
    reply = httpx.post(f"{served.url}/batch?key=id", json=missing)
    rest = {event.id for event in named(events_of(reply.text), "result")}
    assert rest == {row["id"] for row in missing}


async def test_a_server_that_says_by_an_error_that_the_client_is_gone(application, server) -> None:
    """As ASGI allows: the run ends, its place is free, and nothing is an error."""
    server.behaviour = hang
    app = application(max_runs=1, heartbeat_every=0.001)
    scope = {
        "type": "http", "method": "POST", "path": "/batch", "raw_path": b"/batch", "root_path": "", "scheme": "http",
        "query_string": b"format=jsonl", "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.4"},
        "headers": [], "server": ("app", 80), "client": ("peer", 1),
    }  # fmt: skip
    statuses: list[int] = []
    parts: list[bytes] = []

    async def receive() -> Any:
        if not parts:
            return await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": parts.pop(), "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif server.in_flight:
            raise BrokenPipeError

    async def post(state: Any) -> int:
        statuses.clear()
        parts[:] = [b'{"text": "a"}\n']
        await app({**scope, "state": dict(state)}, receive, send)
        return statuses.pop()

    async with app.router.lifespan_context(app) as state:
        assert await asyncio.wait_for(post(state), 10) == 200

        async def post_again() -> int:
            # The place is given back once the thread that read is back.
            status = 503
            while status == 503:
                await asyncio.sleep(0)
                status = await post(state)
            return status

        assert await asyncio.wait_for(post_again(), 10) == 200
    server.wait_until(lambda: server.in_flight == 0)


async def test_no_more_batches_than_may_be_run_at_a_time(application, server) -> None:
    """However many come at once."""
    server.behaviour = hang
    async with (
        running(application(max_runs=2)) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
    ):
        posts = [asyncio.ensure_future(client.post("/batch", json=[{"text": "a"}])) for _ in range(10)]
        waiting = set(posts)
        while len(waiting) > 2:
            done, waiting = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert done
            assert {each.result().status_code for each in done} == {503}
        await asyncio.to_thread(server.wait_until, lambda: server.in_flight == 2)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


def test_heartbeats_while_nothing_ends(application, serve, server) -> None:
    """So that no proxy takes the connection for dead."""
    server.behaviour = hang
    served = serve(application(heartbeat_every=0.01))
    with served.connect() as connection:
        posting = Posting(connection)
        posting.send_rows([{"text": "a"}])
        posting.read_until(lambda each: each.text.count(": heartbeat") >= 3)


def test_a_shutdown_does_not_wait_for_a_client_that_sends_nothing_more(application, serve) -> None:
    """The thread that waits for rows is sent home."""
    served = serve(application(), timeout_graceful_shutdown=1)
    with served.connect() as connection:
        posting = Posting(connection, "?key=id")
        posting.send_rows([{"id": "k"}])
        posting.read_until(lambda each: "k" in each.keys)
        served.stop()


# Where events wait


async def test_the_outbox_keeps_order_on_the_disk_and_starts_anew_when_empty() -> None:
    """What nobody takes does not stay in memory."""
    outbox = Outbox()
    sent = [event("result", {"number": number, "text": "x" * 1000}, str(number)) for number in range(3000)]
    for data in sent:
        outbox.put(data)
    assert outbox.waiting > IN_MEMORY
    outbox.end()
    taken = b""
    while (data := await outbox.take(1)) is not None:
        taken += data
    assert taken == b"".join(sent)
    outbox.close()


async def test_the_outbox_holds_a_run_whose_client_does_not_read() -> None:
    """Once its upload is over; taking goes on."""
    outbox = Outbox()
    outbox.put(b"x" * (ENOUGH_WAITING * 2))
    room = asyncio.ensure_future(outbox.room())
    await asyncio.sleep(0)
    assert not room.done()
    while outbox.waiting > ENOUGH_WAITING:
        assert not room.done()
        await outbox.take(1)
    await asyncio.wait_for(room, 5)
    assert await outbox.take(0.001) is not None
    outbox.close()


def test_an_id_that_the_format_cannot_carry_is_left_out() -> None:
    """The key is in the data as well."""
    assert event("result", {"key": "a\nb"}, "a\nb") == b'event: result\ndata: {"key":"a\\nb"}\n\n'
    assert event("result", 1, "a b") == b"event: result\nid: a b\ndata: 1\n\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mails.csv", bz2.compress(CSV)),
        ("mails.csv", lzma.compress(CSV)),
        ("mails.csv", b"\x28\xb5\x2f\xfd" + CSV),
        ("mails.csv", b"PK\x03\x04" + CSV),
        ("mails.csv.gz", gzip.compress(bz2.compress(CSV))),
    ],
)
def test_an_upload_that_is_packed_otherwise_is_refused(client, name, content) -> None:
    """They are read from local files; what gzip alone unpacks to is bounded here."""
    reply = client.post("/batch", files={"file": (name, content, "text/csv")})
    assert "send the file itself, or gzipped" in reply.text


def test_an_array_is_read_as_lines_are(client) -> None:
    """By one reader, as in a file: pretty-printed too."""
    text = b'[\n  {"text": "a"},\n  {"text": "b"}\n]\n'
    reply = client.post("/batch", content=text, headers={"content-type": "application/x-ndjson"})
    assert {event.data["status"] for event in named(events_of(reply.text), "result")} == {"ok"}


@pytest.mark.parametrize(
    ("text", "status"),
    [("Program generation failed: There are no examples", 502), ("input.text: … is a required property", 422)],
)
def test_what_concerns_every_row_refuses_the_request(loopai_fake, text, status) -> None:
    """With a problem document instead of a stream of failed rows."""
    loopai_fake.task("echo").fails(text)
    app = FastAPI()
    app.include_router(batch_router("echo", mapping=["txt=text"]))
    with override_loopai(app, loopai_fake):
        reply = TestClient(app, raise_server_exceptions=False).post("/batch", json=ROWS)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.status_code == status
