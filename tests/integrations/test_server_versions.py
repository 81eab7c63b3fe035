"""What becomes of programs that are made: which is active, what is said of them, and when they are made."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai import (
    ConfigurationError,
    ExecutionException,
    GenerationState,
    LoopaiClient,
    NotSupportedException,
    SyncLoopaiClient,
    local,
)
from loopai.language_model import LanguageModel

from .scripted_model import block, scripted
from .standin import StandIn

TEXT = {"type": "string"}
LAST = [("Ann Bell", "Bell"), ("Carl Dunn", "Dunn"), ("Eva Fox", "Fox"), ("Gus Hill", "Hill")]
NAMES = [{"input": whole, "output": last} for whole, last in LAST]
LAST_WORD = "def main(input):\n    return input.split()[-1]\n"
SECOND_WORD = "def main(input):\n    return input.split()[1]\n"
FIRST_WORD = "def main(input):\n    return input.split()[0]\n"
LONGER = [
    {"input": "Ida von Jung", "output": "Jung"},
    {"input": "Kim van der Lee", "output": "Lee"},
    {"input": "Max de Nil", "output": "Nil"},
]


def test_a_program_of_the_users_own_is_judged_by_the_examples_of_now() -> None:
    """Its nominal score says nothing: one that is right on all examples stays, one that is wrong is replaced."""
    with SyncLoopaiClient.local() as client:
        right = client.create_task("right", "last name", TEXT, TEXT)
        client.push_program(right.id, LAST_WORD)
        client.add_examples(right.id, NAMES)
        made = client.generate(right.id)
        assert (made.version, made.status, made.confidence_score) == (2, "draft", 1.0)
        assert any("right 1.00, version 1 1.00" in note for note in made.notes)
        assert any("not better than version 1" in note for note in made.notes)
        assert client.get_task(right.id).active_version == 1

        wrong = client.create_task("wrong", "last name", TEXT, TEXT)
        client.push_program(wrong.id, FIRST_WORD)
        client.add_examples(wrong.id, NAMES)
        made = client.generate(wrong.id)
        assert (made.version, made.status) == (2, "active")
        assert any("right 1.00, version 1 0.00" in note for note in made.notes)
        assert client.execute(wrong.id, "Oda Park").output == "Park"


@pytest.mark.slow
def test_examples_that_were_added_count_against_the_active_version() -> None:
    """Its score was measured on the earlier ones: a later version with a lower score may be the better one."""
    with SyncLoopaiClient.local() as client:
        task = client.create_task("names", "last name", TEXT, TEXT, examples=NAMES, wait=True)
        first = client.get_artifact(task.id, 1)
        assert first.confidence_score == 1.0
        client.add_examples(task.id, [{"input": "Quin Rot", "output": "rot"}, {"input": "Sam Toll", "output": "toll"}])
        client.add_examples(task.id, [{"input": one["input"], "output": one["output"].lower()} for one in NAMES])
        second = client.generate(task.id)
        assert second.status == "active"
        assert client.execute(task.id, "Una Vogt").output == "vogt"
        third = client.generate(task.id)
        assert (third.version, third.status) == (3, "draft")
        assert client.get_task(task.id).active_version == second.version


def test_a_program_in_another_language_is_judged_alike() -> None:
    """TypeScript runs in the server's sandbox, not in the training's."""
    pytest.importorskip("deno", reason="TypeScript runs in it")
    with SyncLoopaiClient.local() as client:
        task = client.create_task("names", "last name", TEXT, TEXT)
        source = "export function main(input: string): string { return input.split(' ').pop() ?? ''; }"
        client.push_program(task.id, source, "typescript")
        client.add_examples(task.id, NAMES)
        made = client.generate(task.id)
        assert made.status == "draft"
        assert any("version 1 1.00" in note for note in made.notes)


def test_a_version_that_is_active_meanwhile_is_the_one_to_be_better_than(tmp_path: Path) -> None:
    """Another version may be pushed while the next one is being made."""
    with SyncLoopaiClient.local(tmp_path) as client:
        task = client.create_task("names", "last name", TEXT, TEXT)
        client.push_program(task.id, FIRST_WORD)
        client.add_examples(task.id, NAMES)
        pushed: list[Any] = []

        def push(state: GenerationState) -> None:
            if not pushed:
                pushed.append(client.push_program(task.id, LAST_WORD))

        made = client.generate(task.id, on_progress=push)
        assert [one.version for one in pushed] == [2]
        assert (made.version, made.status) == (3, "draft")
        assert client.get_task(task.id).active_version == 2


@pytest.mark.slow
def test_estimates_are_compared_as_estimates() -> None:
    """Where no exact program exists both versions are measured by R², and an exact program of the user's own stays."""
    pytest.importorskip("sklearn", reason="regressions are fitted by it")
    rows = [
        {
            "input": {"size": n % 40, "rooms": n % 7},
            "output": round(900.0 * (n % 40) + 5000 * (n % 7) + n * 7919 % 997, 2),
        }
        for n in range(160)
    ]
    with SyncLoopaiClient.local() as client:
        task = client.create_task(
            "rent", "The rent", {"type": "object"}, {"type": "number"}, examples=rows[:80], wait=True
        )
        first = client.get_artifact(task.id, 1)
        assert first.estimate is True
        assert first.confidence_score > 0.9
        client.add_examples(task.id, rows[80:])
        second = client.generate(task.id)
        assert second.estimate is True
        assert any("On the 160 current examples: R²" in note for note in second.notes)
        known = {f"{one['input']['size']},{one['input']['rooms']}": one["output"] for one in rows}
        right = (
            f"KNOWN = {known!r}\n\n\ndef main(input):\n    return KNOWN[f\"{{input['size']}},{{input['rooms']}}\"]\n"
        )
        pushed = client.push_program(task.id, right)
        third = client.generate(task.id)
        assert third.status == "draft"
        assert any(f"not better than version {pushed.version}" in note for note in third.notes)


@pytest.mark.slow
def test_a_model_is_told_the_active_version_and_what_it_gets_wrong() -> None:
    """The next version's prompt has the source before, with its failures; what judges it is not in it."""
    pytest.importorskip("openai", reason="a language model is asked by its library")
    noisy = [{"input": {"text": f"mail {n}"}, "output": "spam" if n * 7919 % 13 % 2 else "ham"} for n in range(20)]
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    first = 'def main(input):\n    return "ham"\n'
    table = {one["input"]["text"]: one["output"] for one in noisy}
    good = f"KNOWN = {json.dumps(table)}\n\n\ndef main(input):\n    return KNOWN[input['text']]\n"
    with (
        scripted(block(good)) as model,
        local.running(language_model=LanguageModel("m", model.base_url, "k")) as server,
        SyncLoopaiClient(server.base_url) as client,
    ):
        task = client.create_task("mails", "Is it spam?", schema, TEXT)
        client.push_program(task.id, first)
        client.add_examples(task.id, noisy)
        made = client.generate(task.id)
        prompt = model.prompts()[-1]
    assert "This is the program so far; improve it" in prompt
    assert 'return "ham"' in prompt
    assert "It is wrong for these inputs:" in prompt
    wrong = [one for one in noisy if one["output"] == "spam"]
    assert any(one["input"]["text"] in prompt.partition("It is wrong for these inputs:")[2] for one in wrong)
    held = [one for one in noisy if f'"{one["input"]["text"]}"' not in prompt]
    assert len(held) == 6
    assert any(one in wrong for one in held)
    assert (made.version, made.status, made.confidence_score) == (2, "active", 1.0)


@pytest.mark.slow
def test_a_source_that_may_hold_examples_is_not_sent_where_these_are_not() -> None:
    """With no examples for the model, a program that was learnt from them stays here, too."""
    pytest.importorskip("openai", reason="a language model is asked by its library")
    code = 'SECRET = "4711"\n\n\ndef main(input):\n    return "x"\n'
    with (
        scripted(block(LAST_WORD)) as model,
        local.running(language_model=LanguageModel("m", model.base_url, "k", examples=0)) as server,
        SyncLoopaiClient(server.base_url) as client,
    ):
        task = client.create_task("names", "last name", TEXT, TEXT)
        client.push_program(task.id, code)
        client.add_examples(task.id, [{"input": "a b", "output": "1"}, {"input": "b a", "output": "1"}])
        client.generate(task.id)
        assert "Write the whole" in model.prompts()[-1] or "SAMPLE_INPUTS" in model.prompts()[-1]
        assert "4711" not in "\n".join(model.prompts())


SCORE_BELOW = [
    {"input": {"c": letter}, "output": word}
    for letter, word in zip("abcdef", ("un", "zwei", "tri", "four", "go", "sei"))
]


def test_a_score_below_the_target_is_said_by_the_task_the_reply_and_the_console(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first program is active all the same: few examples judge harshly."""
    below = "is below the accuracy target 0.90"
    with caplog.at_level(logging.WARNING, "loopai.local"), SyncLoopaiClient.local() as client:
        task = client.create_task("codes", "the word", {"type": "object"}, TEXT, examples=SCORE_BELOW, wait=True)
        assert task.active_version == 1
        assert any(below in warning for warning in task.warnings)
        assert task.generation is not None
        assert (task.generation.status, task.generation.version, task.generation.program_status) == (
            "made",
            1,
            "active",
        )
        assert task.generation.confidence_score == client.get_artifact(task.id, 1).confidence_score < 0.9
        assert client.execute(task.id, {"c": "c"}).output == "tri"
        again = client.generate(task.id)
        assert any(below in note for note in again.notes)
        assert any(below in warning for warning in client.get_task_by_name("codes").warnings)
    assert any(
        "task codes, version 1 (active)" in record.message and below in record.message for record in caplog.records
    )


@pytest.mark.slow
def test_with_strict_a_program_below_the_target_stays_a_draft(tmp_path: Path) -> None:
    """It is made once, also by the next server on the folder; more examples make another, and activating it runs it."""
    for _ in range(2):
        with local.running(str(tmp_path), strict=True) as server, SyncLoopaiClient(server.base_url) as client:
            if not client.list_tasks():
                client.create_task("codes", "the word", {"type": "object"}, TEXT, examples=SCORE_BELOW, wait=True)
            task = client.get_task("codes")
            assert task.generation is not None
            assert (task.active_version, task.generation.program_status) == (None, "draft")
            for _ in range(2):
                with pytest.raises(ExecutionException, match=r"Version 1 is a draft, as its score 0\.\d\d is below"):
                    client.execute("codes", {"c": "c"})
            assert len(client.list_artifacts("codes")) == 1
    with local.running(str(tmp_path), strict=True) as server, SyncLoopaiClient(server.base_url) as client:
        client.activate("codes", 1)
        assert client.execute("codes", {"c": "c"}).output == "tri"
        good = client.create_task("names", "last name", TEXT, TEXT, examples=NAMES, wait=True)
        assert good.active_version == 1
        client.retire("codes", 1)
        client.add_examples("codes", [{"input": {"c": "g"}, "output": "sept"}])
        assert client.generate("codes").status == "draft"
        with pytest.raises(ExecutionException, match="Version 2 is a draft"):
            client.execute("codes", {"c": "c"})


def test_strict_is_a_setting_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the other options of a server are."""
    from fastapi.testclient import TestClient

    monkeypatch.setenv("LOOPAI_SERVER_DATA", str(tmp_path))
    monkeypatch.setenv("LOOPAI_SERVER_STRICT", "true")
    with TestClient(local.create(), base_url="http://127.0.0.1") as http:
        body = {"name": "c", "description": "d", "input_schema": {}, "output_schema": {}, "examples": SCORE_BELOW}
        task = http.post("/api/v1/tasks", json=body).json()
        run = http.post(f"/api/v1/tasks/{task['id']}/execute", json={"task_id": task["id"], "input": {"c": "a"}})
        assert "is a draft" in run.json()["details"]
    monkeypatch.setenv("LOOPAI_SERVER_STRICT", "perhaps")
    with pytest.raises(ConfigurationError, match="LOOPAI_SERVER_STRICT"):
        local.create()


async def test_the_program_is_made_when_the_task_is_created() -> None:
    """Without an execution; `wait=True` returns when it is there, and says how it went, on both clients."""
    seen: list[str] = []

    async def look(state: GenerationState) -> None:
        seen.append(state.stage or "")

    async with LoopaiClient.local() as client:
        task = await client.create_task("names", "last name", TEXT, TEXT, examples=NAMES, wait=True, on_progress=look)
        assert (task.active_version, task.warnings, task.questions) == (1, [], [])
        assert task.generation is not None
        assert (task.generation.status, task.generation.confidence_score) == ("made", 1.0)
        assert seen
        begun = await client.create_task("more", "last name", TEXT, TEXT, examples=NAMES)
        assert begun.generation is not None
        assert begun.generation.status == "running"
        # The first execution waits for what has begun.
        assert (await client.execute(begun.id, "Una Vogt")).output == "Vogt"
        now = await client.get_task(begun.id)
        assert now.active_version == 1


def test_what_a_task_could_not_learn_is_said_at_creation_and_later(tmp_path: Path) -> None:
    """By the reply, by the task, after a restart too; and no longer once it has been learnt."""
    values = [{"input": {"x": n}, "output": f"{n * 7919 % 97}-{n * 31 % 89}x{n * n % 83}"} for n in range(5)]
    with SyncLoopaiClient.local(tmp_path) as client:
        task = client.create_task("odd", "odd", {"type": "object"}, TEXT, examples=values, wait=True)
        assert task.generation is not None
        assert task.generation.status == "failed"
        reason = task.generation.reason or ""
        assert "no program was found" in reason
        assert any(reason in warning for warning in task.warnings)
        with pytest.raises(ExecutionException) as caught:
            client.execute(task.id, {"x": 1})
        assert reason in caught.value.message
        one = client.create_task("one", "one", TEXT, TEXT, examples=NAMES[:1], wait=True)
        assert one.generation is not None
        assert (one.generation.status, one.generation.reason) == (
            "failed",
            "1 example is too few: give at least three.",
        )
        nothing = client.create_task("nothing", "d", TEXT, TEXT, wait=True)
        assert (nothing.generation, nothing.warnings) == (None, [])
    with SyncLoopaiClient.local(tmp_path) as client:
        task = client.get_task("odd")
        assert task.generation is not None
        assert task.generation.reason == reason
        client.push_program(task.id, "def main(input):\n    return 'x'")
        assert client.get_task(task.id).generation is None
        client.add_examples("one", NAMES[1:])
        assert client.get_task("one").generation is None
        assert client.generate("one").status == "active"


def test_an_input_that_would_decide_is_named() -> None:
    """Where programs that fit all examples disagree on a known input: in the task, and on the artifact."""
    known = [{"input": "Ida von Jung"}]
    two = [{"input": "Ann Bell", "output": "Bell"}, {"input": "Carl Dunn", "output": "Dunn"}]
    with SyncLoopaiClient.local() as client:
        task = client.create_task("names", "d", TEXT, TEXT, examples=[*two, NAMES[2], *known], wait=True)
        assert [question.input for question in task.questions] == ["Ida von Jung"]
        assert {"Jung", "von Jung"} & set(task.questions[0].answers)
        assert len(task.questions[0].answers) > 1
        assert any("give the output for" in warning for warning in task.warnings)
        assert client.list_artifacts(task.id)[0].questions == task.questions
        client.add_examples(task.id, [{"input": "Ida von Jung", "output": "Jung"}])
        decided = client.generate(task.id)
        assert decided.questions == []
        assert client.execute(task.id, "Kim van der Lee").output == "Lee"


def test_inputs_that_were_executed_are_known_inputs() -> None:
    """The next version names those on which programs disagree."""
    with SyncLoopaiClient.local() as client:
        task = client.create_task("names", "d", TEXT, TEXT, examples=NAMES[:3], wait=True)
        assert task.questions == []
        client.execute(task.id, "Kim van der Lee")
        made = client.generate(task.id)
        assert [question.input for question in made.questions] == ["Kim van der Lee"]
        assert [question.input for question in client.get_task(task.id).questions] == ["Kim van der Lee"]


@pytest.mark.slow
def test_generate_need_not_wait() -> None:
    """`wait=False` returns the task, which says what became of it; two at the same time make one version."""
    with SyncLoopaiClient.local() as client:
        task = client.create_task("names", "d", TEXT, TEXT)
        client.add_examples(task.id, NAMES)
        begun = client.generate(task.id, wait=False)
        assert begun.generation is not None
        assert begun.generation.status == "running"
        made = client.generate(task.id)
        assert (made.version, made.status) == (1, "active")
        stages: list[str] = []
        again = client.generate(task.id, on_progress=lambda state: stages.append(state.stage or ""))
        assert (again.version, again.status) == (2, "draft")
        assert stages
        client.add_examples(task.id, [{"input": NAMES[0]["input"], "output": {"no": ["shape"]}}])
        with pytest.raises(ExecutionException, match="Program generation failed"):
            client.generate(task.id, on_progress=lambda state: None)


async def test_the_published_server_is_not_waited_for() -> None:
    """It makes programs at the first execution: the call says so before anything is created."""
    server = StandIn(limit=None)
    async with LoopaiClient(transport=server) as client:
        with pytest.raises(NotSupportedException, match=r"has no create_task\(wait=True\)"):
            await client.create_task("t", "d", TEXT, TEXT, examples=NAMES, wait=True)
