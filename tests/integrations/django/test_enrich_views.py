"""Rows that run when they are saved, where people save them: views of both kinds, forms, threads."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from inbox.models import Mail

from loopai.contrib.django.models import PendingRow

from .sites import TASK, judge

pytestmark = pytest.mark.django_db(transaction=True)


def save(request: HttpRequest) -> JsonResponse:
    mail = Mail.objects.create(subject=request.GET["subject"])
    with transaction.atomic():
        Mail.objects.create(subject="undone")
        transaction.set_rollback(True)
    if "fails" in request.GET:
        raise ZeroDivisionError
    return JsonResponse({"pk": mail.pk, "label": mail.label, "entries": PendingRow.objects.count()})


async def asave(request: HttpRequest) -> JsonResponse:
    mail = await Mail.objects.acreate(subject=request.GET["subject"])
    first = mail.label
    mail.label, mail.subject = "", "changed"
    await mail.asave()
    return JsonResponse({"labels": [first, mail.label]})


urlpatterns = [path("save/", save), path("asave/", asave)]


def test_a_view_under_atomic_requests(declare: Any, spam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row runs once the view's transaction is committed, not while it is open; one that fails leaves nothing."""
    declare()
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    client = Client(raise_request_exception=False)
    with override_settings(ROOT_URLCONF=__name__):
        answer = client.get("/save/", {"subject": "kept"}).json()
        assert client.get("/save/", {"subject": "lost", "fails": "1"}).status_code == 500
    assert (answer["label"], answer["entries"]) == ("", 1)
    assert list(Mail.objects.values_list("subject", "label")) == [("kept", "ham")]
    assert ([given["subject"] for given in spam.inputs], PendingRow.objects.count()) == (["kept"], 0)


def test_an_async_view(declare: Any, spam: Any) -> None:
    """`acreate` and `asave` return with the row's result on the instance, and a failing task does not fail them."""
    declare()

    async def labels(subject: str) -> Any:
        answer = await AsyncClient().get("/asave/", {"subject": subject})
        return json.loads(answer.content)["labels"]

    with override_settings(ROOT_URLCONF=__name__):
        assert async_to_sync(labels)("x") == ["ham", "ham"]
        spam.fails("boo")
        assert async_to_sync(labels)("y") == ["", ""]
    assert list(PendingRow.objects.values_list("state", "code", "revision")) == [("failed", "program", 2)]


def test_async_views_at_once(declare: Any, spam: Any) -> None:
    """None gets what is another's."""
    declare(save_to=["score=output"])
    spam.computes(lambda given: int(given["subject"].split()[1]))

    async def saved() -> list[Any]:
        return list(await asyncio.gather(*(Mail.objects.acreate(subject=f"mail {number}") for number in range(20))))

    assert [mail.score for mail in async_to_sync(saved)()] == list(range(20))
    assert PendingRow.objects.count() == 0


@pytest.mark.usefixtures("mail_admin")
def test_a_form_of_the_admin(declare: Any, spam: Any, admin_client: Any) -> None:
    """Which saves in a transaction of its own: a row that is added, and one that is changed, has its label after it."""
    declare()
    added = admin_client.post("/admin/inbox/mail/add/", {"subject": "x", "label": ""})
    assert added.status_code == 302
    mail = Mail.objects.get()
    assert mail.label == "ham"
    url = f"/admin/inbox/mail/{mail.pk}/change/"
    assert admin_client.post(url, {"subject": "y", "label": ""}).status_code == 302
    assert admin_client.post(url, {"subject": "too long " * 100, "label": ""}).status_code == 200
    assert [given["subject"] for given in spam.inputs] == ["x", "y"]
    assert (Mail.objects.get().label, PendingRow.objects.count()) == ("ham", 0)


def test_threads_that_save_at_once(declare: Any, spam: Any) -> None:
    """Each has a connection of its own, and each row its own result."""
    declare(save_to=["score=output"])
    spam.computes(lambda given: int(given["subject"].split()[1]))
    raised: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 5):
                mail = Mail.objects.create(subject=f"mail {number}")
                assert mail.score == number
        except BaseException as error:  # noqa: BLE001  # shown by the test
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert sorted(Mail.objects.values_list("score", flat=True)) == list(range(40))
    assert PendingRow.objects.count() == 0


def test_a_server_that_hangs(declare: Any, make_server: Callable[..., Any]) -> None:
    """Over a socket: the save returns, the row waits for whoever has more time, and once the server answers it runs."""
    hung: list[Any] = []

    async def hangs_once(asked: Any, wire: Any) -> None:
        if asked.method == "POST" and not hung:
            hung.append(asked)
            await asyncio.Event().wait()
        await judge(asked, wire)

    server = make_server(hangs_once)
    with override_settings(LOOPAI={"default": {"BASE_URL": server.url, "TASKS": {"spam": TASK}}}):
        declare(within=1.0, version=1, save_to=["score"])
        assert Mail.objects.create(subject="mail 7").score is None
        assert list(PendingRow.objects.values_list("owner", "state", "tries")) == [("", "pending", 0)]
        call_command("loopai_batch", "--pending", stderr=io.StringIO())
    assert (len(hung), Mail.objects.get().score, PendingRow.objects.count()) == (1, 7, 0)
