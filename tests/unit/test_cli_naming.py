"""How the command line finds the task that is meant."""

from __future__ import annotations

import pytest

from loopai.cli.failures import Failed
from loopai.cli.session import task_id
from loopai.exceptions import NotFoundException
from loopai.testing import FakeLoopai

ID = "7f1c2a34-0000-4000-8000-000000000001"


def test_ids_and_names_of_ones_own_ask_nobody() -> None:
    """An id, and a name from the options, cost no request."""
    fake = FakeLoopai()
    with fake.client(tasks={"mine": ID}) as client:
        assert task_id(client, "mine") == ID
        assert task_id(client, ID.upper()) == ID
    assert not fake.requests


def test_other_names_are_the_servers() -> None:
    """Any other name is looked up; one that is not there is not found."""
    fake = FakeLoopai()
    with fake.client() as client:
        made = client.create_task("spam", "Tell spam", {}, {})
        assert task_id(client, "spam") == str(made.id)
        with pytest.raises(NotFoundException):
            task_id(client, "ham")


def test_a_server_without_names_says_what_to_do() -> None:
    """Where the server cannot look up names, the error names the two other ways."""
    fake = FakeLoopai()
    fake.operation("get_task_by_name").replies(None, status=405)
    with (
        fake.client() as client,
        pytest.raises(Failed, match=r"give the task's id, or name it with LOOPAI_TASKS=spam="),
    ):
        task_id(client, "spam")
