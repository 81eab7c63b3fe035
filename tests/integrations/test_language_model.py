"""Programs that a language model writes: what it is told, what is made of its answers, and what they may cost."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("openai", reason="a language model is asked by its library")
if sys.version_info < (3, 10):
    pytest.skip("the sandbox needs Python 3.10", allow_module_level=True)

from loopai.exceptions import ConfigurationError
from loopai.generators import Candidate, Failure, Previous, Refusal, TaskDescription
from loopai.generators.llm import ModelGenerator
from loopai.language_model import LanguageModel

from .scripted_model import KEY, Said, ScriptedModel, block, scripted

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
LABEL = {"type": "string", "enum": ["spam", "not_spam"]}
TASK = TaskDescription("spam", "Classify emails as spam or not spam", TEXT, LABEL, accuracy_target=0.9)
WORDS = ["free", "prize", "winner", "cheap"]
# Twenty examples: spam names one of the words, and no two inputs are the same.
EXAMPLES: list[Any] = [
    {"input": {"text": f"{WORDS[n % 4]} offer {n:02}"}, "output": "spam"}
    if n % 2
    else {"input": {"text": f"meeting number {n:02}"}, "output": "not_spam"}
    for n in range(20)
]
GOOD = 'def main(input):\n    return "not_spam" if "meeting" in input["text"] else "spam"\n'
BY_OFFER = 'def main(input):\n    return "spam" if "offer" in input["text"] else "not_spam"\n'


def make(model: ScriptedModel, examples_given: Any = EXAMPLES, task: TaskDescription = TASK, **options: Any) -> Any:
    """What the generator makes; its pauses are noted, not waited for."""
    given = {name: options.pop(name) for name in ("previous", "failures") if name in options}
    settings = LanguageModel("gpt-test", model.base_url, KEY, **options)
    model.pauses = []  # type: ignore[attr-defined]
    return ModelGenerator(settings, sleep=model.pauses.append, run_ms=300).generate(task, examples_given, **given)  # type: ignore[attr-defined]


def made(*script: Any, **options: Any) -> tuple[Candidate, ScriptedModel]:
    with scripted(*script) as model:
        candidate = make(model, **options)
    assert isinstance(candidate, Candidate), candidate
    return candidate, model


def refused(*script: Any, **options: Any) -> tuple[str, ScriptedModel]:
    with scripted(*script) as model:
        refusal = make(model, **options)
    assert isinstance(refusal, Refusal), refusal
    return refusal.reason, model


def told_in(prompt: str) -> list[Any]:
    return [example for example in EXAMPLES if example["input"]["text"] in prompt]


def test_a_good_program_says_where_it_comes_from() -> None:
    """Model, provider, usage, cost and score are true; the program says them, and holds no key."""
    candidate, model = made(block(GOOD), prices=(1.0, 10.0))
    assert (candidate.model, candidate.provider, candidate.synthesis_strategy) == ("gpt-test", "127.0.0.1", "auto")
    assert (candidate.confidence_score, candidate.fits_examples, candidate.verified) == (1.0, True, True)
    assert candidate.usage is not None
    assert vars(candidate.usage) == {"requests": 1, "input_tokens": 1000, "output_tokens": 200}
    assert candidate.cost == pytest.approx(1000 / 1e6 + 200 * 10 / 1e6)
    assert "Written by the language model gpt-test from 14 of 20 examples" in candidate.code
    assert "(6): 1.000" in candidate.code
    assert model.headers[0]["authorization"] == f"Bearer {KEY}"
    assert model.headers[0][":path"] == "/v1/chat/completions"
    assert KEY not in repr(candidate)


def test_the_prompt_has_the_task_and_examples_of_every_answer() -> None:
    """Description, schemas, and examples over all answers; those held back are in no message."""
    wrong = 'def main(input):\n    return "spam"\n'
    _, model = made(block(wrong), block(wrong), block(GOOD))
    first, *later = model.prompts()
    assert "Classify emails as spam" in first
    assert '"enum": ["spam", "not_spam"]' in first
    shown = told_in(first)
    assert len(shown) == 14
    assert {example["output"] for example in shown} == {"spam", "not_spam"}
    for prompt in later:
        assert all(example in shown for example in told_in(prompt))


def test_no_more_examples_are_shown_than_are_allowed() -> None:
    """`llm_examples` bounds what leaves the machine, in the first message and in every repair."""
    wrong = 'def main(input):\n    return "spam"\n'
    _, model = made(block(wrong), block(GOOD), examples=4)
    assert len(told_in(model.prompts()[0])) == 4
    assert len({str(one) for prompt in model.prompts() for one in told_in(prompt)}) == 4
    candidate, model = made(block(GOOD), examples=0)
    assert told_in(model.prompts()[0]) == []
    assert candidate.verified
    assert "from 0 of 20 examples" in candidate.code


def test_of_many_examples_thirty_are_shown() -> None:
    """A rare answer is among them."""
    many = [{"input": {"text": f"meeting number {n}"}, "output": "not_spam"} for n in range(400)]
    many += [{"input": {"text": f"free offer {n}"}, "output": "spam"} for n in range(3)]
    with scripted(block(GOOD)) as model:
        assert make(model, many).verified
    prompt = model.prompts()[0]
    assert "30 examples:" in prompt
    assert "free offer" in prompt


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ("I would rather talk about the weather.", "no code block"),
        ("", "no code block"),
        (Said(None), "no code block"),
        (Said("```python\ndef main(input):\n    return (", finish="length"), "cut off"),
        (block("def main(input):\n    return ("), "does not load"),
        (block("import subprocess\n\n\ndef main(input):\n    return 1"), "does not load"),
        (block("def other(input):\n    return 1"), "does not load"),
        (block("def main(input):\n    while True:\n        pass"), "takes too long"),
        (block('def main(input):\n    return input["missing"]'), "It raises"),
        (block("def main(input):\n    return 7"), "does not fit the schema"),
        (block('def main(input):\n    return "spam"'), "wrong for these inputs"),
    ],
    ids=["prose", "nothing", "null", "cut off", "syntax", "forbidden", "no main", "loop", "raises", "schema", "wrong"],
)
def test_a_repair_is_told_one_kind_of_fact(answer: Any, fact: str) -> None:
    """And the program that comes of it is taken."""
    candidate, model = made(answer, block(GOOD))
    assert candidate.confidence_score == 1.0
    assert len(model.requests) == 2
    repair = model.requests[1]["messages"][-1]["content"]
    assert fact in repair
    facts = ["no code block", "cut off", "does not load", "It raises", "does not fit the schema", "wrong for these"]
    assert sum(one in repair for one in facts) <= 1 or fact == "takes too long"
    assert repair.count("input: ") <= 5


def test_at_most_three_repairs() -> None:
    """Four answers of prose are no program."""
    reason, model = refused("prose")
    assert len(model.requests) == 4
    assert "wrote no program that loads" in reason


def test_the_best_program_is_kept() -> None:
    """Where no repair is right, that which is right most often on what was held back."""
    wrong = 'def main(input):\n    return "spam"\n'
    half = (
        'def main(input):\n    return "spam" if "free" in input["text"] or "cheap" in input["text"] else "not_spam"\n'
    )
    candidate, model = made(block(wrong), block(half), block("def main(input):\n    return 7"), block("def main("))
    assert len(model.requests) == 4
    assert '"cheap" in input' in candidate.code
    assert not candidate.fits_examples
    assert candidate.confidence_score < 1
    assert any("below the accuracy target" in note for note in candidate.notes)


def test_memorised_examples_score_nothing() -> None:
    """A table of what was shown is right there, and wrong on every example that was held back."""
    with scripted("prose") as model:
        make(model)
        shown = {one["input"]["text"]: one["output"] for one in told_in(model.prompts()[0])}
    program = f"TABLE = {shown!r}\n\n\ndef main(input):\n    return TABLE[input['text']]\n"
    candidate, _ = made(block(program))
    assert candidate.confidence_score == 0.0
    assert not candidate.fits_examples


def test_right_on_what_was_shown_and_wrong_on_the_rest_is_what_the_score_says() -> None:
    """The model is not asked again, since it would have to be told what was held back."""
    with scripted("prose") as model:
        make(model)
        shown = [one["input"]["text"] for one in told_in(model.prompts()[0])]
    code = f"SPAM = {[text for text in shown if 'offer' in text]!r}\n\n\n"
    code += 'def main(input):\n    return "spam" if input["text"] in SPAM else "not_spam"\n'
    candidate, model = made(block(code))
    assert len(model.requests) == 1
    assert 0 < candidate.confidence_score < 1


def test_few_examples_hold_one_back() -> None:
    """Of three one is not shown; one or two verify nothing."""
    with scripted(block(BY_OFFER)) as model:
        candidate = make(model, EXAMPLES[:3])
    assert len(told_in(model.prompts()[0])) == 2
    assert candidate.verified
    with scripted(block(BY_OFFER)) as model:
        candidate = make(model, EXAMPLES[:2])
    assert len(told_in(model.prompts()[0])) == 2
    assert (candidate.verified, candidate.confidence_score) == (False, 0.5)


@pytest.mark.parametrize(
    ("status", "text", "wanted"),
    [
        (401, f"Incorrect API key provided: {KEY}", "set LOOPAI_LLM_API_KEY"),
        (403, "no access", "set LOOPAI_LLM_API_KEY"),
        (302, "", "redirects to nowhere (302): set LOOPAI_LLM_BASE_URL"),
        (404, "no such model", "has no model 'gpt-test'"),
        (400, f"bad, {KEY}", "refused the request (400): bad, …"),
    ],
)
def test_what_another_attempt_does_not_cure_is_said_at_once(status: int, text: str, wanted: str) -> None:
    """Without a second request, and without the key that the endpoint sends back."""
    reason, model = refused(Said(text, status))
    assert wanted in reason
    assert KEY not in reason
    assert len(model.requests) == 1


def test_a_rate_limit_is_waited_for() -> None:
    """As long as Retry-After says; a server's failure and a cut connection by pauses of our own."""
    candidate, model = made(
        Said("slow down", 429, {"retry-after": "7"}), Said("", 500), Said("x", cut=True), block(GOOD)
    )
    assert candidate.confidence_score == 1.0
    assert model.pauses == [7.0, 1.0, 2.0]  # type: ignore[attr-defined]
    assert candidate.usage is not None
    assert candidate.usage.requests == 1


def test_a_rate_limit_beyond_the_time_is_a_refusal() -> None:
    """Nobody waits an hour for a program."""
    reason, model = refused(Said("quota", 429, {"retry-after": "3600"}))
    assert "429: quota" in reason
    assert "3600 s" in reason
    assert model.pauses == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", [Said("", 500), Said("x", cut=True), Said("", 503)])
def test_attempts_end(answer: Said) -> None:
    """Four, then the reason."""
    reason, model = refused(answer)
    assert len(model.requests) == 4
    assert "127.0.0.1" in reason


def test_a_slow_reply_is_cut_off() -> None:
    """Also one whose beginning has come."""
    reason, model = refused(Said("x", hang=True), seconds=0.4)
    assert "did not answer within 0.4 s" in reason
    assert len(model.requests) == 1


def test_nobody_at_the_address() -> None:
    """The reason names the host."""
    with scripted("x") as model:
        gone = model.base_url
    generator = ModelGenerator(LanguageModel("m", gone), sleep=lambda _: None)
    refusal = generator.generate(TASK, EXAMPLES)
    assert isinstance(refusal, Refusal)
    assert "127.0.0.1 cannot be reached" in refusal.reason


@pytest.mark.parametrize("body", [b"<html>", {"choices": []}, {"choices": [{"message": None}]}, [], {"error": "x"}])
def test_what_is_no_chat_endpoint_is_named(body: Any) -> None:
    """The address is the likeliest fault."""
    reason, _ = refused(Said(body=body))
    assert "/v1 right?" in reason


def test_a_redirect_is_not_followed() -> None:
    """Examples leave for the address that was set, and for no other."""
    with scripted(block(GOOD)) as other:
        address = f"{other.base_url}/chat/completions"
        reason, model = refused(Said("", 308, {"location": address}))
        assert other.requests == []
    assert f"redirects to {address} (308): set LOOPAI_LLM_BASE_URL" in reason
    assert len(model.requests) == 1


def test_an_error_in_a_reply_without_one_is_told() -> None:
    """As gateways answer whose own request failed."""
    reason, _ = refused(Said(body={"error": {"message": f"quota exceeded for {KEY}", "code": 429}}))
    assert "(it says: quota exceeded for …)" in reason


@pytest.mark.parametrize(
    "answer",
    [
        Said(body={"choices": [{"message": {"content": None, "tool_calls": [{"id": "1", "type": "function"}]}}]}),
        Said(
            block("# \ud800\ndef main(input):\n    return 1"),
        ),
        Said("overloaded", 529),
    ],
    ids=["a call of a tool", "half a character", "overloaded"],
)
def test_an_odd_answer_is_followed_by_another_attempt(answer: Said) -> None:
    """It is no program, and no end."""
    candidate, model = made(answer, block(GOOD))
    assert candidate.confidence_score == 1.0
    assert len(model.requests) == 2


def test_a_reply_without_end_is_refused() -> None:
    """Memory is bounded, whatever the endpoint sends."""
    reason, _ = refused(Said(body=b" " * 5_000_000))
    assert "more than 4,000,000 bytes" in reason


def test_an_endpoint_that_knows_the_older_name_of_the_limit() -> None:
    """It is asked once more, with that."""
    _, model = made(Said("Unsupported parameter: max_completion_tokens", 400), block(GOOD))
    assert "max_completion_tokens" in model.requests[0]
    assert "max_tokens" in model.requests[1]


def test_tokens_are_bounded() -> None:
    """No request is sent that could exceed the budget, and the best program so far is kept."""
    reason, model = refused(block(GOOD), max_tokens=300)
    assert "budget of 300 tokens" in reason
    assert model.requests == []
    wrong = 'def main(input):\n    return "spam"\n'
    candidate, model = made(
        Said(block(wrong), usage={"prompt_tokens": 3000, "completion_tokens": 900}), max_tokens=4000
    )
    assert len(model.requests) == 1
    assert any("budget of 4,000 tokens is spent" in note for note in candidate.notes)
    assert all(request["max_completion_tokens"] <= 4000 for request in model.requests)


def test_money_is_bounded() -> None:
    """By the prices that were set, or what a gateway says that it cost."""
    reason, model = refused(block(GOOD), prices=(1000.0, 1000.0), max_cost=0.01)
    assert "budget of $0.01 is spent" in reason
    assert model.requests == []
    wrong = Said(block('def main(input):\n    return "spam"\n'), usage={"cost": 0.4, "prompt_tokens": 10})
    candidate, model = made(wrong, prices=(0.1, 0.1), max_cost=0.4)
    assert len(model.requests) == 1
    assert candidate.cost == 0.4
    with pytest.raises(ConfigurationError, match="llm_prices"):
        LanguageModel("m", max_cost=1.0)


def hidden(example: Any) -> Any:
    """A redaction: addresses go, and one example altogether."""
    if "number 04" in example["input"]["text"]:
        return None
    return {"input": {"text": example["input"]["text"].replace("@", " at ")}, "output": example["output"]}


def broken(example: Any) -> Any:
    raise ValueError(f"cannot read {example}")


def test_a_redaction_holds_for_everything_that_is_told() -> None:
    """Examples, and the errors and outputs of programs, come from redacted inputs."""
    mails = [{"input": {"text": f"{one['input']['text']} ann@b.test"}, "output": one["output"]} for one in EXAMPLES]
    echo = 'def main(input):\n    raise ValueError(input["text"])\n'
    wrong = 'def main(input):\n    return "spam"\n'
    with scripted(block(echo), block(wrong), block(GOOD)) as model:
        candidate = make(model, mails, redact=f"{__name__}:hidden")
    assert candidate.confidence_score == 1.0
    assert len(model.requests) == 3
    for prompt in model.prompts():
        assert "@" not in prompt.replace("@property, @staticmethod and @classmethod", "")
        assert "number 04" not in prompt


def test_a_redaction_that_fails_sends_nothing() -> None:
    """Its error is named by its type, as its text may hold the example."""
    reason, model = refused(block(GOOD), redact=f"{__name__}:broken")
    assert reason.endswith("raised ValueError")
    assert model.requests == []
    reason, _ = refused(block(GOOD), redact="loopai.nowhere:function")
    assert "cannot be imported" in reason


def test_without_examples_the_program_runs_on_made_and_proposed_inputs() -> None:
    """It is not verified, scores 0.5, and the list of inputs is no part of it."""
    code = f'{GOOD}\n\nSAMPLE_INPUTS = [{{"text": "meeting at noon"}}, {{"text": "win"}}, 7]\n'
    candidate, model = made(block(code), examples_given=())
    assert (candidate.verified, candidate.confidence_score, candidate.draft) == (False, 0.5, False)
    assert "SAMPLE_INPUTS" in model.prompts()[0]
    assert "SAMPLE_INPUTS" not in candidate.code
    assert "Not verified" in candidate.code
    assert "from the description alone" in candidate.summary
    assert any("Not verified" in note for note in candidate.notes)


def test_without_examples_errors_and_misfits_are_repaired() -> None:
    """An input that the model proposes is run as well."""
    fragile = (
        'def main(input):\n    return {"noon": "not_spam"}[input["text"]]\n\n\nSAMPLE_INPUTS = [{"text": "at ten"}]\n'
    )
    candidate, model = made(block(fragile), block("def main(input):\n    return 1"), block(GOOD), examples_given=())
    assert candidate.confidence_score == 0.5
    assert "It raises" in model.requests[1]["messages"][-1]["content"]
    assert "at ten" in model.requests[1]["messages"][-1]["content"]
    assert "does not fit the output schema" in model.requests[2]["messages"][-1]["content"]


def test_without_examples_it_may_stay_a_draft() -> None:
    """By setting; one that examples verify does not."""
    assert made(block(GOOD), examples_given=(), unverified="draft")[0].draft
    assert not made(block(GOOD), unverified="draft")[0].draft


def test_a_program_that_never_works_is_none() -> None:
    """Where it fails on every input it was tried on."""
    reason, _ = refused(block('def main(input):\n    raise ValueError("no")\n'), examples_given=())
    assert "wrote no program that works" in reason


def test_a_next_version_starts_from_the_one_before() -> None:
    """Its source and what is wrong with it are told; failures count as examples."""
    before = Previous('def main(input):\n    return "spam"  # the one before\n', 0.5)
    failure = Failure({"text": "meeting tomorrow"}, "spam", "not_spam")
    candidate, model = made(block(GOOD), previous=before, failures=[failure])
    assert "# the one before" in model.prompts()[0]
    assert "It is wrong for these inputs" in model.prompts()[0]
    assert "of 21 examples" in candidate.summary


def test_a_key_that_the_model_says_is_in_no_program() -> None:
    """Should an endpoint put the header into its answer."""
    candidate, _ = made(block(f"# {KEY}\n{GOOD}"))
    assert KEY not in candidate.code


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "openai", None)
    reason, model = refused(block(GOOD))
    assert reason.endswith("pip install openai")
    assert model.requests == []
