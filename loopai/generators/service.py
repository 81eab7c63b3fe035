"""`ServiceGenerator`: programs from an HTTP service with `POST /generate`, as the published server uses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from .._core.retries import PASSING_STATUSES
from ..exceptions import ConfigurationError
from ..models import GeneratorResponse
from ..programs import Program, ProgramPool, UnsupportedLanguage
from ..programs.languages import language as known_language
from .errors import CannotLearn
from .examples import read_examples, with_corrections
from .samples import sample_inputs
from .seam import Budget, Candidate, Failure, Previous, Refusal, TaskDescription, cyclomatic_complexity, lines_of_code
from .whole import RUN_MS, Bench, Example, Sleep, below_target, split, task_line, with_head

ATTEMPT_SECONDS = 30.0
PAUSES = (2.0, 4.0)
"""Seconds between attempts, as in the published server: three attempts in all."""

MOST_REPLY_BYTES = 4_000_000
LONGEST_CODE = 1_000_000
LONGEST_BODY = 300
UNVERIFIED_SCORE = 0.5
NO_TASK = "00000000-0000-0000-0000-000000000000"
"""A task id that no server uses."""
_TYPESCRIPT = "typescript"


class ServiceGenerator:
    """Gets programs from the service at `url`. See `Generator`; all examples that are not held back are sent."""

    def __init__(self, url: str, sleep: Sleep = time.sleep, run_ms: int = RUN_MS) -> None:
        self._url = url.rstrip("/")
        self._host = urlsplit(url).hostname or "the generator"
        self._sleep = sleep
        self._run_ms = run_ms

    def generate(
        self,
        task: TaskDescription,
        examples: Sequence[Any],
        previous: Previous | None = None,
        failures: Sequence[Failure] = (),
        budget: Budget | None = None,
    ) -> Candidate | Refusal:
        """Return the service's program, or the reason why there is none. Previous version and failures are not sent."""
        started = time.monotonic()
        limits = budget or Budget()
        deadline = started + limits.seconds
        given = with_corrections(list(examples)[: limits.examples], failures)
        try:
            inputs, outputs, _ = read_examples(given) if given else ([], [], [])
            shown, held = split([Example(*pair) for pair in zip(inputs, outputs)], limits.examples)
            with ProgramPool(processes=2) as pool:
                reply = self._reply(self._request(task, shown, pool), deadline)
                bench = Bench(pool, task, deadline, self._run_ms)
                made = self._candidate(task, reply, shown, held, bench)
        except CannotLearn as error:
            return Refusal(str(error))
        return replace(made, generation_time_sec=round(time.monotonic() - started, 3))

    def _request(self, task: TaskDescription, shown: Sequence[Example], pool: ProgramPool) -> bytes:
        runtime = "deno" if _runs(pool, _TYPESCRIPT) else "python"
        # By hand: our models leave out nulls, and a published server sends them.
        body = {
            "task_id": task.id or NO_TASK,
            "task_name": task.name,
            "input_schema": task.input_schema,
            "output_schema": task.output_schema,
            "description": task.description,
            "examples": [{"input": one.input, "output": one.output} for one in shown],
            "constraints": None,
            "target_runtime": runtime,
        }
        return json.dumps(body).encode()

    def _reply(self, request: bytes, deadline: float) -> GeneratorResponse:
        for attempt in range(len(PAUSES) + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                raise CannotLearn(f"{self._host} did not answer in time")
            try:
                status, body = self._post(request, min(left, ATTEMPT_SECONDS))
            except httpx.HTTPError as error:
                reason = f"Failed after {attempt + 1} attempts: {str(error) or type(error).__name__}"
            else:
                if status == 200:
                    return self._read(body)
                shown = " ".join(body[: 4 * LONGEST_BODY].decode("utf-8", "replace").split())[:LONGEST_BODY]
                reason = f"HTTP {status}: {shown}"
                if status not in PASSING_STATUSES and status < 500:
                    break
            if attempt < len(PAUSES):
                self._sleep(PAUSES[attempt])
        raise CannotLearn(f"{self._host}: {reason}")

    def _post(self, request: bytes, seconds: float) -> tuple[int, bytes]:
        until = time.monotonic() + seconds
        body = b""
        headers = {"content-type": "application/json"}
        with (
            httpx.Client(timeout=seconds) as client,
            client.stream("POST", f"{self._url}/generate", content=request, headers=headers) as response,
        ):
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_REPLY_BYTES:
                    raise CannotLearn(f"the reply of {self._host} has more than {MOST_REPLY_BYTES:,} bytes")
                if time.monotonic() > until:
                    raise httpx.ReadTimeout(f"no whole reply within {seconds:g} s")
        return response.status_code, body

    def _read(self, body: bytes) -> GeneratorResponse:
        try:
            reply = GeneratorResponse.model_validate_json(body)
        except ValidationError:
            raise CannotLearn(
                f"Generation error: {self._host} does not answer as a generator does: is the URL right?"
            ) from None
        if not reply.success:
            raise CannotLearn((reply.error_message or "Program generation failed")[:2000])
        if not (reply.code or "").strip():
            raise CannotLearn("Unknown error")
        if len(reply.code or "") > LONGEST_CODE:
            raise CannotLearn(f"the program of {self._host} has more than {LONGEST_CODE:,} characters")
        return reply

    def _candidate(
        self, task: TaskDescription, reply: GeneratorResponse, shown: list[Example], held: list[Example], bench: Bench
    ) -> Candidate:
        try:
            language = known_language(reply.language).name
        except UnsupportedLanguage as error:
            raise CannotLearn(str(error)) from None
        program = Program(reply.code or "", language)
        inputs = [] if shown or held else sample_inputs(task.input_schema)
        trial = bench.try_on_examples(program, shown) if shown else bench.try_on_inputs(program, inputs)
        if not trial.loads:
            raise CannotLearn(f"the program of {self._host} does not load: {trial.fault.reason if trial.fault else ''}")
        if trial.right == 0:
            raise CannotLearn(f"the program of {self._host} works for none of the inputs it was tried on")
        if held:
            score = round(bench.try_on_examples(program, held).right, 4)
            said = f"Exact on examples that it was not shown ({len(held):,}): {score:.3f}."
        else:
            score = UNVERIFIED_SCORE * trial.right
            said = "Not verified: no example was held back."
        metadata = reply.metadata if isinstance(reply.metadata, dict) else {}
        source = f"Made by the generator at {self._host} from {len(shown):,} of {len(shown) + len(held):,} examples."
        code = with_head(reply.code or "", language, [task_line(task), source, said])
        return Candidate(
            code=code,
            confidence_score=score,
            synthesis_strategy="auto",
            model=_text(metadata, "llm_model", "model") or "unknown",
            summary=f"{source} {said}",
            fits_examples=bool(shown) and trial.right == 1.0 and (not held or score == 1.0),
            language=language,
            provider=_text(metadata, "llm_provider", "provider") or self._host,
            cost=_cost(metadata),
            lines_of_code=lines_of_code(code, known_language(language).comment),
            cyclomatic_complexity=_complexity(reply, code, language),
            notes=tuple(_notes(task, score, said, verified=bool(held))),
            verified=bool(held),
        )


def _notes(task: TaskDescription, score: float, said: str, *, verified: bool) -> Iterator[str]:
    if not verified:
        yield said
    elif score < task.accuracy_target:
        yield below_target(score, task.accuracy_target)


def _runs(pool: ProgramPool, language: str) -> bool:
    try:
        pool.require(language)
    except ConfigurationError:
        return False
    return True


def _text(metadata: dict[str, Any], *names: str) -> str:
    return next((metadata[name][:200] for name in names if isinstance(metadata.get(name), str)), "")


def _cost(metadata: dict[str, Any]) -> float:
    cost = metadata.get("generation_cost", metadata.get("cost"))
    return float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) and cost >= 0 else 0.0


def _complexity(reply: GeneratorResponse, code: str, language: str) -> int:
    told = reply.complexity.cyclomatic_complexity if reply.complexity is not None else None
    if told is not None and 0 < told < 1_000_000:
        return told
    return cyclomatic_complexity(code) if language == "python" else 1
