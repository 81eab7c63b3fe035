"""What type checkers must see of the Django and Celery integrations; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Optional

from typing_extensions import assert_type

from loopai import ExecutionResult, LoopaiClient, SyncLoopaiClient
from loopai.contrib.celery import start_batch
from loopai.contrib.django import get_async_client, get_client
from loopai.contrib.django.models import BatchRun
from loopai.contrib.django.testing import override_loopai
from loopai.testing import FakeLoopai


def view() -> ExecutionResult:
    client = get_client()
    assert_type(client, SyncLoopaiClient)
    return client.with_options(timeout=2).execute("spam", {"text": "Lunch?"})


async def asynchronous_view() -> ExecutionResult:
    client = get_async_client("other")
    assert_type(client, LoopaiClient)
    return await client.execute("spam", {"text": "Lunch?"})


def nightly() -> Optional[BatchRun]:
    run = start_batch(
        "spam", "mail.Message", save_to=["verdict=label"], mode="resume", expect="label", chunk_size=50, max_errors="5%"
    )
    assert_type(run, Optional[BatchRun])
    return run


def test() -> None:
    with override_loopai() as fake:
        assert_type(fake, FakeLoopai)
        fake.task("spam").returns({"label": "spam"})


def wrong() -> None:
    get_client(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # an alias is a text
    get_client().with_options(timeot=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    start_batch("spam", "mail.Message", chunksize=50)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    start_batch("spam", "mail.Message", mode="resum")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
