"""`Chat`: one model, called through the library `openai` within limits of time, tokens and cost. Makes no prompts."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..._core.retries import backoff, retry_after
from ...exceptions import ConfigurationError
from ...language_model import LanguageModel
from ..seam import Usage
from ..whole import Sleep

if TYPE_CHECKING:
    import openai

MOST_ATTEMPTS = 4
MOST_REPLY_BYTES = 4_000_000
MOST_TOKENS_A_REPLY = 16_384
"""Includes the thinking of reasoning models."""

FEWEST_TOKENS_A_REPLY = 256
LETTERS_A_TOKEN = 3
"""Characters per token, to estimate a prompt's tokens before it is sent; most texts have four."""

LONGEST_ERROR = 300
_PASSING = frozenset({408, 409, 425, 429})


class ChatFailed(Exception):
    """The model gave no answer; the message says why and what to do, and never contains the key."""


@dataclass(frozen=True)
class Answer:
    """What the model wrote, and whether it finished."""

    text: str
    cut_off: bool


class Chat:
    """Calls one model for at most `seconds` from now, and counts the tokens and the cost."""

    def __init__(
        self,
        model: LanguageModel,
        seconds: float,
        sleep: Sleep = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise ConfigurationError("a language model needs the library openai: pip install openai") from None
        self._openai = openai
        # If a reply breaks off while it is read, the HTTP library's error is raised: httpx's, or httpx2's.
        base = next(kind for kind in openai.DefaultAsyncHttpxClient.__mro__ if kind.__name__ == "AsyncClient")
        self._broken: type[Exception] = importlib.import_module(base.__module__.partition(".")[0]).TransportError
        self._model = model
        # Start the clock only now: importing the library does not count as the model's time.
        self._deadline = clock() + seconds
        self._sleep = sleep
        self._clock = clock
        self._limit_name = "max_completion_tokens"
        self.usage = Usage()
        self.cost = 0.0

    def ask(self, messages: Sequence[Mapping[str, str]]) -> Answer:
        """Return the model's answer. Raises `ChatFailed`."""
        attempt = 0
        while True:
            most = self._most_tokens(messages)
            try:
                return self._read(asyncio.run(self._within_time(messages, most)))
            except asyncio.TimeoutError:
                raise ChatFailed(
                    f"{self._model.host} did not answer within {self._model.seconds:g} s: give it more time with "
                    "LOOPAI_LLM_SECONDS, or take a faster model"
                ) from None
            except self._openai.APIStatusError as error:
                if self._other_limit_name(error):
                    continue
                reason, passing, asked = self._refused(error)
            except (self._openai.APIConnectionError, self._broken) as error:
                reason = f"{self._model.host} cannot be reached: {self._told(error.__cause__ or error)}"
                passing, asked = True, None
            attempt += 1
            if not passing or attempt >= MOST_ATTEMPTS:
                raise ChatFailed(reason)
            pause = backoff(attempt, 0.0) if asked is None else asked
            if self._clock() + pause >= self._deadline:
                raise ChatFailed(
                    f"{reason}; it asks to wait {pause:g} s, which the time for this program does not allow"
                )
            self._sleep(pause)

    async def _within_time(self, messages: Sequence[Mapping[str, str]], most: int) -> bytes:
        left = self._deadline - self._clock()
        if left <= 0:
            raise asyncio.TimeoutError
        return await asyncio.wait_for(self._post(messages, most, left), left)

    async def _post(self, messages: Sequence[Mapping[str, str]], most: int, left: float) -> bytes:
        # Retries are ours, since they must stay within the budget. Some servers require a header even without a key.
        # Examples go only to the configured address; redirects are not followed.
        async with self._openai.AsyncOpenAI(
            api_key=self._model.api_key or "none",
            base_url=self._model.base_url,
            max_retries=0,
            timeout=left,
            http_client=self._openai.DefaultAsyncHttpxClient(follow_redirects=False),
        ) as client:
            request: dict[str, Any] = {"model": self._model.model, "messages": list(messages), self._limit_name: most}
            body = b""
            async with client.chat.completions.with_streaming_response.create(**request) as response:
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MOST_REPLY_BYTES:
                        raise ChatFailed(f"the reply of {self._model.host} has more than {MOST_REPLY_BYTES:,} bytes")
            return body

    def _read(self, body: bytes) -> Answer:
        try:
            reply = json.loads(body)
            choice = reply["choices"][0]
            content = choice["message"].get("content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise ChatFailed(
                f"the reply of {self._model.host} is not that of an OpenAI-compatible endpoint{self._said(body)}: is "
                f"{self._model.base_url or 'the address'} right? Most end with /v1"
            ) from None
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
        # A surrogate left by a truncated escape cannot be part of a program.
        text = content.encode(errors="replace").decode() if isinstance(content, str) else ""
        self._count(reply.get("usage"))
        return Answer(self._scrubbed(text), choice.get("finish_reason") == "length")

    def _said(self, body: bytes) -> str:
        """The message of a reply that is an error despite its status, as some gateways answer."""
        try:
            error = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        message = error.get("message") if isinstance(error, dict) else error
        return (
            f" (it says: {self._scrubbed(' '.join(message.split()))[:LONGEST_ERROR]})"
            if isinstance(message, str)
            else ""
        )

    def _count(self, usage: Any) -> None:
        usage = usage if isinstance(usage, dict) else {}
        read, written = _whole(usage.get("prompt_tokens")), _whole(usage.get("completion_tokens"))
        known = self.usage
        self.usage = Usage(known.requests + 1, known.input_tokens + read, known.output_tokens + written)
        told = usage.get("cost")  # some gateways report it
        if isinstance(told, (int, float)) and not isinstance(told, bool) and told >= 0:
            self.cost += float(told)
        elif self._model.prices is not None:
            self.cost += (read * self._model.prices[0] + written * self._model.prices[1]) / 1e6

    def _most_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """How many tokens the reply may have within both budgets. Raises `ChatFailed` if none are left."""
        prompt = sum(len(message["content"]) for message in messages) // LETTERS_A_TOKEN
        left = self._model.max_tokens - self.usage.input_tokens - self.usage.output_tokens - prompt
        if left < FEWEST_TOKENS_A_REPLY:
            raise ChatFailed(
                f"the budget of {self._model.max_tokens:,} tokens is spent: raise LOOPAI_LLM_MAX_TOKENS, or show fewer "
                "examples with LOOPAI_LLM_EXAMPLES"
            )
        if self._model.max_cost is not None and self._model.prices is not None:
            money = self._model.max_cost - self.cost - prompt * self._model.prices[0] / 1e6
            payable = money / (self._model.prices[1] / 1e6) if self._model.prices[1] else (left if money >= 0 else 0)
            if payable < FEWEST_TOKENS_A_REPLY:
                raise ChatFailed(f"the budget of ${self._model.max_cost:g} is spent: raise LOOPAI_LLM_MAX_COST")
            left = min(left, int(payable))
        return min(left, MOST_TOKENS_A_REPLY)

    def _other_limit_name(self, error: openai.APIStatusError) -> bool:
        """Whether the endpoint only knows the older name of the limit; it is then called once more, with that name."""
        if error.status_code not in {400, 422} or self._limit_name == "max_tokens":
            return False
        if "max_completion_tokens" not in str(error):
            return False
        self._limit_name = "max_tokens"
        return True

    def _refused(self, error: openai.APIStatusError) -> tuple[str, bool, float | None]:
        """Why the endpoint refused, whether another attempt may help, and after how many seconds if it says so."""
        status, host = error.status_code, self._model.host
        if status in {401, 403}:
            wanted = f"set LOOPAI_LLM_API_KEY to one that may use {self._model.model}"
            return f"{host} refused the key ({status}): {wanted}", False, None
        if 300 <= status < 400:
            there = self._scrubbed(error.response.headers.get("location", "nowhere"))[:LONGEST_ERROR]
            return f"{host} redirects to {there} ({status}): set LOOPAI_LLM_BASE_URL to where it should go", False, None
        told = self._told(error)
        if status == 404:
            return f"{host} has no model {self._model.model!r}, or no such address ({status}): {told}", False, None
        if status in _PASSING or status >= 500:
            asked = retry_after({name.lower(): text for name, text in error.response.headers.items()}, time.time())
            return f"{host} answered {status}: {told}", True, asked
        return f"{host} refused the request ({status}): {told}", False, None

    def _told(self, error: BaseException) -> str:
        body = getattr(error, "body", None)
        message = body.get("message") if isinstance(body, dict) else None
        text = message if isinstance(message, str) and message else str(error) or type(error).__name__
        return self._scrubbed(" ".join(text.split()))[:LONGEST_ERROR]

    def _scrubbed(self, text: str) -> str:
        """The text without the key, in case the endpoint echoes it."""
        return text.replace(self._model.api_key, "…") if self._model.api_key else text


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
