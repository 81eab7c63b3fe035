"""A language model, or a generator service, behind the embedded server: on all faces, with Loopai's own examples."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="a language model is asked by its library")
if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai import Hooks, SyncLoopaiClient, local
from loopai.contrib.fastapi import LoopaiSettings
from loopai.exceptions import ConfigurationError, LoopaiException, ServerException
from loopai.generators import Candidate, Refusal, TaskDescription
from loopai.generators.choosing import generate_with
from loopai.generators.service import ServiceGenerator
from loopai.language_model import LanguageModel
from loopai.local.generation import Generation

from .scripted_model import KEY, Said, ScriptedModel, block, scripted

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

# What the READMEs of Loopai's SDKs create: a description and schemas, and no examples.
PUBLISHED: dict[str, tuple[str, Any, str, list[tuple[str, Any]]]] = {
    "spam": (
        "Classify emails as spam or not spam",
        {"type": "string", "enum": ["spam", "not_spam"]},
        'SPAM = ("buy now", "free money", "click here", "winner")\n\n\ndef main(input):\n'
        '    text = input["text"].lower()\n    return "spam" if any(word in text for word in SPAM) else "not_spam"\n',
        [
            ("Buy now for free money!", "spam"),
            ("Meeting tomorrow at 2pm", "not_spam"),
            ("URGENT: Click here NOW!!!", "spam"),
        ],
    ),
    "sentiment": (
        "Tell the sentiment of a review",
        {"type": "string", "enum": ["positive", "negative", "neutral"]},
        'import re\n\nGOOD = {"love", "great"}\nBAD = {"terrible", "broke"}\n\n\ndef main(input):\n'
        '    words = set(re.findall(r"[a-z]+", input["text"].lower()))\n'
        "    score = len(words & GOOD) - len(words & BAD)\n"
        '    return "positive" if score > 0 else "negative" if score < 0 else "neutral"\n',
        [("I love this, it is great", "positive"), ("Terrible, it broke", "negative"), ("It is a box", "neutral")],
    ),
    "labels": (
        "Label a message as spam or not_spam",
        {"type": "object", "properties": {"label": {"enum": ["spam", "not_spam"]}}, "required": ["label"]},
        'def main(input):\n    hot = ["prize", "refund"]\n    text = input["text"].lower()\n'
        '    return {"label": "spam" if any(word in text for word in hot) else "not_spam"}\n',
        [("claim your prize", {"label": "spam"}), ("lunch at noon", {"label": "not_spam"})],
    ),
}


def model_at(scripted_model: ScriptedModel, **options: Any) -> LanguageModel:
    return LanguageModel("gpt-test", scripted_model.base_url, KEY, **options)


@contextmanager
def serving(model: ScriptedModel, **options: Any) -> Iterator[SyncLoopaiClient]:
    with (
        local.running(language_model=model_at(model, **options)) as server,
        SyncLoopaiClient(server.base_url) as client,
    ):
        yield client


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_examples_run(name: str) -> None:
    """From a description and schemas alone, through a socket."""
    description, output, code, runs = PUBLISHED[name]
    with scripted(block(code)) as model, serving(model) as client:
        task = client.create_task(name, description, TEXT, output, accuracy_target=0.95, latency_target_ms=50)
        for text, expected in runs:
            assert client.execute(task.id, {"text": text}).output == expected
        done = client.batch_execute(task.id, [{"text": text} for text, _ in runs])
        assert [row.output for row in done.results] == [expected for _, expected in runs]
        artifact = client.list_artifacts(task.id)[0]
    assert (artifact.llm_provider, artifact.llm_model, artifact.confidence_score) == ("127.0.0.1", "gpt-test", 0.5)
    assert (artifact.status, artifact.verified) == ("active", False)
    assert artifact.usage is not None
    assert (artifact.usage.requests, artifact.usage.input_tokens, artifact.usage.output_tokens) == (1, 1000, 200)
    assert "Not verified" in artifact.code
    assert len(model.requests) == 1


@pytest.mark.slow
def test_a_draft_by_setting_says_what_to_do() -> None:
    """It is made once, is not run, and the reason names it."""
    _, output, code, _ = PUBLISHED["spam"]
    with scripted(block(code)) as model, serving(model, unverified="draft", prices=(1.0, 10.0)) as client:
        task = client.create_task("spam", "d", TEXT, output)
        for _ in range(2):
            with pytest.raises(LoopaiException, match="Version 1 is a draft, as no example verifies it"):
                client.execute(task.id, {"text": "x"})
        artifact = client.list_artifacts(task.id)[0]
        assert client.execute(task.id, {"text": "free money"}, version=1).output == "spam"
    assert (artifact.status, artifact.generation_cost) == ("draft", pytest.approx(0.003))
    assert len(model.requests) == 1


@pytest.mark.slow
def test_a_draft_is_not_made_again_by_the_next_server(tmp_path: Path) -> None:
    """What was paid for once is kept."""
    _, output, code, _ = PUBLISHED["spam"]
    with scripted(block(code)) as model:
        options: dict[str, Any] = {"llm_model": "m", "llm_base_url": model.base_url, "llm_unverified": "draft"}
        for _ in range(2):
            with SyncLoopaiClient.local(tmp_path, **options) as client:
                if not client.list_tasks():
                    client.create_task("spam", "d", TEXT, output)
                with pytest.raises(LoopaiException, match="is a draft"):
                    client.execute("spam", {"text": "x"})
                assert len(client.list_artifacts("spam")) == 1
    assert len(model.requests) == 1


@pytest.mark.slow
def test_the_key_is_in_no_log_error_or_artifact(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the endpoint sends back: errors, artifacts, files, logs, representations and the process list."""
    psutil = pytest.importorskip("psutil")
    _, output, code, _ = PUBLISHED["spam"]
    found: list[str] = []
    answers = (
        Said(f"Incorrect API key provided: {KEY}", 401),
        Said(f"You sent {KEY}", 400),
        Said(f"{KEY} is over its quota", 429, {"retry-after": "9999"}),
        Said(body=f"<html>{KEY}".encode()),
        Said(f"Your key is {KEY}"),
        Said(block(f'"""{KEY}"""\n# {KEY}\n{code}')),
        Said("x", hang=True),
    )
    for number, answer in enumerate(answers):
        options: dict[str, Any] = {"llm_model": "m", "llm_api_key": KEY, "llm_seconds": 2.0 if answer.hang else 30.0}
        with (
            caplog.at_level(logging.DEBUG),
            scripted(answer) as model,
            SyncLoopaiClient.local(tmp_path / "data", llm_base_url=model.base_url, **options) as client,
        ):
            task = client.create_task(f"t{number}", "d", TEXT, output)
            try:
                found.append(repr(client.execute(task.id, {"text": "x"})))
            except LoopaiException as error:
                found += [str(error), repr(error), repr(vars(error))]
            found += [repr(client), repr(client.config), repr(client.list_artifacts(task.id))]
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                    found.append(" ".join([*process.cmdline(), *process.environ().values()]))
            assert model.headers[0]["authorization"] == f"Bearer {KEY}"
    found += [path.read_bytes().decode("latin-1") for path in (tmp_path / "data").rglob("*") if path.is_file()]
    found.append(caplog.text)
    assert any("401" in text for text in found)
    assert "programs are made with the help of 127.0.0.1" in caplog.text
    assert not [text for text in found if KEY in text]


def test_it_is_off_by_default() -> None:
    """Without a setting nothing is asked, and the error says what would be."""
    with SyncLoopaiClient.local() as client:
        task = client.create_task("t", "d", TEXT, {"type": "string"})
        with pytest.raises(LoopaiException, match="LOOPAI_LLM_MODEL"):
            client.execute(task.id, {"text": "x"})


def test_a_refusal_of_the_model_is_the_error_of_the_execution() -> None:
    """With what to do."""
    with scripted(Said("no", 401)) as model, serving(model) as client:
        task = client.create_task("t", "d", TEXT, {"type": "string"})
        with pytest.raises(LoopaiException, match="set LOOPAI_LLM_API_KEY"):
            client.execute(task.id, {"text": "x"})


@pytest.mark.slow
def test_what_is_learnt_here_is_asked_of_nobody() -> None:
    """A task whose examples suffice sends nothing; one that has too few does, and is not warned of."""
    dates = [("March 14, 2015", "14.03.2015"), ("December 1, 2016", "01.12.2016"), ("July 22, 2019", "22.07.2019")]
    given = [{"input": one, "output": other} for one, other in dates]
    with scripted(block("def main(input):\n    return input\n")) as model, serving(model) as client:
        task = client.create_task(
            "dates", "d", {"type": "string"}, {"type": "string"}, examples=given, accuracy_target=0.3
        )
        assert client.execute(task.id, "May 3, 2001").output == "03.05.2001"
        assert model.requests == []
        task = client.create_task(
            "echo", "d", {"type": "string"}, {"type": "string"}, examples=[{"input": "a", "output": "a"}]
        )
        assert task.warnings == []
        assert client.execute(task.id, "b").output == "b"
    assert len(model.requests) == 1


@pytest.mark.slow
def test_the_environment_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a client with an embedded server, FastAPI's settings, and the application factory."""
    _, output, code, _ = PUBLISHED["spam"]
    with scripted(block(code)) as model:
        monkeypatch.setenv("LOOPAI_LLM_MODEL", "gpt-env")
        monkeypatch.setenv("LOOPAI_LLM_BASE_URL", model.base_url)
        monkeypatch.setenv("LOOPAI_LLM_API_KEY", KEY)
        with SyncLoopaiClient.local(tmp_path) as client:
            task = client.create_task("t", "d", TEXT, output)
            assert client.execute(task.id, {"text": "free money"}).output == "spam"
        settings = LoopaiSettings(local=str(tmp_path))
        assert KEY not in repr(settings)
        with SyncLoopaiClient(**settings.arguments()) as client:
            task = client.create_task("u", "d", TEXT, output)
            assert client.execute(task.id, {"text": "free money"}).output == "spam"
        from fastapi.testclient import TestClient

        monkeypatch.setenv("LOOPAI_SERVER_DATA", str(tmp_path / "other"))
        with TestClient(local.create(), base_url="http://127.0.0.1") as app:
            made = app.post(
                "/api/v1/tasks", json={"name": "v", "description": "d", "input_schema": TEXT, "output_schema": output}
            )
            run = {"task_id": made.json()["id"], "input": {"text": "free money"}}
            assert app.post(f"/api/v1/tasks/{run['task_id']}/execute", json=run).json()["output"] == "spam"
    assert [request["model"] for request in model.requests] == ["gpt-env"] * 3


def test_one_folder_has_one_language_model(tmp_path: Path) -> None:
    """Two clients of a process that say otherwise would share a server, and one of them be wrong."""
    with SyncLoopaiClient.local(tmp_path) as first, SyncLoopaiClient.local(tmp_path, llm_model="m") as second:
        first.get_health()
        with pytest.raises(ConfigurationError, match="other settings of its language model"):
            second.get_health()


def test_a_model_that_never_answers_does_not_outlive_its_time() -> None:
    """The execution fails after the model's time, and the server goes on."""
    with scripted(Said("x", hang=True)) as model, serving(model, seconds=0.5) as client:
        task = client.create_task("t", "d", TEXT, {"type": "string"})
        with pytest.raises(LoopaiException, match=r"did not answer within 0\.5 s"):
            client.execute(task.id, {"text": "x"})
        assert client.get_health().status == "healthy"


TASK = TaskDescription("t", "d", TEXT, {"type": "string"}, 0.9, id="7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60")
MAILS = [
    {"input": {"text": f"{'offer' if n % 2 else 'meeting'} {n:02}"}, "output": "spam" if n % 2 else "ham"}
    for n in range(20)
]
PROGRAM = 'def main(input):\n    return "spam" if "offer" in input["text"] else "ham"\n'


def answered(*script: Any, examples: Any = MAILS) -> tuple[Any, ScriptedModel]:
    said = [one if isinstance(one, Said) else Said(body=one) for one in script]
    with scripted(*said) as service:
        pauses: list[float] = []
        url = service.base_url.removesuffix("/v1")
        made = ServiceGenerator(url + "/", sleep=pauses.append).generate(TASK, examples)
        service.pauses = pauses  # type: ignore[attr-defined]
        return made, service


def test_a_generator_service_is_sent_the_examples() -> None:
    """By the wire contract, nulls written; those held back judge what it answers."""
    reply = {"success": True, "code": PROGRAM, "language": "python", "metadata": {"llm_model": "x", "cost": 0.25}}
    made, service = answered(reply)
    assert isinstance(made, Candidate)
    request = service.requests[0]
    assert service.headers[0][":path"] == "/generate"
    assert request["task_id"] == TASK.id
    assert (request["task_name"], request["description"], request["constraints"]) == ("t", "d", None)
    assert list(request) == [
        "task_id", "task_name", "input_schema", "output_schema", "description", "examples", "constraints",
        "target_runtime",
    ]  # fmt: skip
    assert len(request["examples"]) == 14
    assert all(example in MAILS for example in request["examples"])
    assert (made.confidence_score, made.verified, made.model, made.cost) == (1.0, True, "x", 0.25)
    assert "Made by the generator at 127.0.0.1 from 14 of 20 examples" in made.code
    made, _ = answered(reply, examples=[])
    assert (made.confidence_score, made.verified) == (0.5, False)


@pytest.mark.parametrize(
    ("answer", "reason", "requests"),
    [
        ({"success": False, "error_message": "no idea"}, "no idea", 1),
        ({"success": False}, "Program generation failed", 1),
        ({"success": True, "code": " "}, "Unknown error", 1),
        ({"ok": 1}, "does not answer as a generator does", 1),
        (b"<html>", "does not answer as a generator does", 1),
        (Said(body=b"busy", status=503), "HTTP 503: busy", 3),
        (Said(body=b"what?", status=400), "HTTP 400: what?", 1),
        (Said("x", cut=True), "Failed after 3 attempts", 3),
        (Said(body=b" " * 5_000_000), "more than 4,000,000 bytes", 1),
        ({"success": True, "code": "def main(", "language": "python"}, "does not load", 1),
        ({"success": True, "code": "x", "language": "cobol"}, "cobol", 1),
        ({"success": True, "code": "def main(input):\n    return 1\n", "language": "python"}, "works for none", 1),
    ],
)
def test_what_a_generator_service_does_not_do(answer: Any, reason: str, requests: int) -> None:
    """Three attempts where another may help, with pauses of two and four seconds; then the contract's words."""
    made, service = answered(answer)
    assert isinstance(made, Refusal)
    assert reason in made.reason
    assert len(service.requests) == requests
    assert service.pauses == [2.0, 4.0][: requests - 1]  # type: ignore[attr-defined]


def test_a_generator_service_behind_the_server() -> None:
    """It is asked for what cannot be made here, and excludes a language model."""
    reply = {"success": True, "code": 'def main(input):\n    return "x"\n', "language": "python"}
    with scripted(Said(body=reply)) as service:
        url = service.base_url.removesuffix("/v1")
        with local.running(generator=url) as server, SyncLoopaiClient(server.base_url) as client:
            task = client.create_task("t", "d", TEXT, {"type": "string"})
            assert client.execute(task.id, {"text": "a"}).output == "x"
            artifact = client.list_artifacts(task.id)[0]
            assert service.requests[0]["task_id"] == str(task.id)
    assert (artifact.llm_provider, artifact.verified) == ("127.0.0.1", False)
    with (
        pytest.raises(ConfigurationError, match="exclude each other"),
        local.running(generator=url, language_model=LanguageModel("m")),
    ):
        pass
    with pytest.raises(ConfigurationError, match="must be an http"), local.running(generator="localhost:8000"):
        pass


class _LetsGo(Hooks):
    """Sets an event once a call is to be sent again, and notes why."""

    def __init__(self, event: threading.Event) -> None:
        self.reasons: list[Any] = []
        self._event = event

    def retry_scheduled(self, call: Any, pause: float, error: LoopaiException) -> None:
        self.reasons.append((error.code, pause))
        self._event.set()


def test_while_a_program_is_made_executions_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 `GENERATING`, once the server has waited; the client comes again by itself, and gets its output."""
    monkeypatch.setattr("loopai.local.app.Generation", partial(Generation, patience=0.05))
    answers, reply = threading.Event(), {"success": True, "code": 'def main(input):\n    return "x"\n'}
    hooks = _LetsGo(answers)
    with scripted(Said(body={**reply, "language": "python"}, after=answers)) as service:
        url = service.base_url.removesuffix("/v1")
        with local.running(generator=url) as server, SyncLoopaiClient(server.base_url, hooks=[hooks]) as client:
            task = client.create_task("t", "d", TEXT, {"type": "string"})
            with pytest.raises(ServerException, match="still being made") as raised:
                client.with_options(max_retries=0).execute(task.id, {"text": "a"})
            assert (raised.value.status_code, raised.value.code, raised.value.retry_after) == (503, "GENERATING", 1)
            with pytest.raises(ServerException, match="still being made"):
                client.with_options(max_retries=0).batch_execute(task.id, [{"text": "a"}])
            assert client.execute(task.id, {"text": "a"}).output == "x"
            assert len(service.requests) == 1
    assert ("GENERATING", 1) in hooks.reasons


class Fixed:
    """A generator that always gives the same."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.calls = 0

    def generate(self, *_: Any) -> Any:
        self.calls += 1
        return self.made


@pytest.mark.slow
def test_the_better_program_is_taken() -> None:
    """By its share of exact answers; what nobody verified replaces nothing that examples did."""
    strict = TaskDescription("t", "d", {"type": "string"}, {"type": "string"}, accuracy_target=1.0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    rows = [{"input": word, "output": word.upper()} for word in words]
    known = generate_with(None, strict, rows)
    assert isinstance(known, Candidate)
    asked = Fixed(Refusal("no"))
    assert generate_with(asked, strict, rows) == known or asked.calls == 0

    def candidate(score: float, **changed: Any) -> Candidate:
        return Candidate("def main(input):\n    return 1\n", score, "auto", "m", "s", True, **changed)

    noisy = [{"input": f"{word} {n}", "output": ["a", "b"][n * 7919 % 13 % 2]} for n, word in enumerate(words * 5)]
    target = TaskDescription("t", "d", {"type": "string"}, {"type": "string"}, accuracy_target=1.0)
    local_made = generate_with(None, target, noisy)
    assert isinstance(local_made, Candidate)
    assert local_made.confidence_score < 1
    assert generate_with(Fixed(candidate(1.0)), target, noisy).confidence_score == 1.0  # type: ignore[union-attr]
    kept = generate_with(Fixed(candidate(0.0)), target, noisy)
    assert isinstance(kept, Candidate)
    assert kept.code == local_made.code
    kept = generate_with(Fixed(candidate(1.0, verified=False)), target, noisy)
    assert isinstance(kept, Candidate)
    assert kept.code == local_made.code
    kept = generate_with(Fixed(Refusal("the key is wrong")), target, noisy)
    assert isinstance(kept, Candidate)
    assert any("the key is wrong" in note for note in kept.notes)
