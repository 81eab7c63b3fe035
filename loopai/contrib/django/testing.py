"""For tests of your project: replace the clients of your aliases by a fake, synchronous and asynchronous.

With pytest, the fixture `loopai_fake` does it for every alias::

    from django.http import JsonResponse
    from django.urls import path
    from loopai.contrib.django import get_async_client, get_client

    def check(request):
        return JsonResponse(get_client().execute("spam", {"text": request.GET["text"]}).output)

    async def acheck(request):
        client = get_async_client("other")
        return JsonResponse((await client.execute("spam", {"text": request.GET["text"]})).output)

    urlpatterns = [path("check/", check), path("acheck/", acheck)]

    def test_check(loopai_fake, client):
        loopai_fake.task("spam").returns({"label": "spam"})
        assert client.get("/check/", {"text": "Claim your prize"}).json() == {"label": "spam"}
        assert client.get("/acheck/", {"text": "Lunch?"}).json() == {"label": "spam"}
        assert [given["text"] for given in loopai_fake.task("spam").inputs] == ["Claim your prize", "Lunch?"]

With Django's own runner, `override_loopai` decorates a test case, a test or a block::

    from django.test import SimpleTestCase
    from loopai import ConnectionException
    from loopai.contrib.django import get_async_client, get_client
    from loopai.contrib.django.testing import override_loopai

    @override_loopai()
    class SpamTests(SimpleTestCase):
        def setUp(self):
            self.loopai_fake.task("spam").computes(lambda mail: {"label": "spam" if "prize" in mail["text"] else "ham"})

        def test_spam(self):
            self.assertEqual(get_client().execute("spam", {"text": "a prize"}).output, {"label": "spam"})

        async def test_ham(self):
            result = await get_async_client().execute("spam", {"text": "Lunch?"})
            self.assertEqual(result.output, {"label": "ham"})

        def test_another_server(self):
            with override_loopai(None, "other") as other:
                other.unreachable()
                self.assertEqual(get_client().execute("spam", {"text": "a prize"}).output, {"label": "spam"})
                with self.assertRaises(ConnectionException):
                    get_client("other").execute("spam", {"text": "a prize"})
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Optional

from django.test.utils import TestContextDecorator

from ...testing import FakeLoopai
from .clients import standing_in


class override_loopai(TestContextDecorator):  # noqa: N801  # named like Django's override_settings
    """Replace the clients of these aliases (default: all) by a fake, in all threads.

    Use it as a context manager that returns the fake; as a decorator of test cases, which have it as `self.loopai_fake`
    from `setUp` on; or as a decorator of sync or async functions, which get it as the argument `kwarg_name`. Without
    `fake` each use creates a new one. There are no pauses between attempts; other settings are those of the alias.
    """

    def __init__(self, fake: Optional[FakeLoopai] = None, *aliases: str, kwarg_name: Optional[str] = None) -> None:
        super().__init__(attr_name="loopai_fake", kwarg_name=kwarg_name)
        self._fake = fake
        self._aliases = aliases
        self._entered: list[ExitStack] = []

    def enable(self) -> FakeLoopai:
        """Replace the clients, and return the fake."""
        fake = FakeLoopai() if self._fake is None else self._fake
        stack = ExitStack()
        names: tuple[Any, ...] = self._aliases or (None,)
        for alias in names:
            stack.enter_context(standing_in(alias, fake))
        self._entered.append(stack)
        return fake

    if TYPE_CHECKING:

        def __enter__(self) -> FakeLoopai: ...

    def disable(self) -> None:
        """Restore the earlier clients."""
        self._entered.pop().close()
