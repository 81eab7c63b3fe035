"""For tests of code that uses loopai: a server in memory, and signed webhook deliveries.

`FakeLoopai` is a transport, so the client, its parsing, errors and retries are the real ones::

    >>> from loopai.testing import FakeLoopai, ProgramError
    >>> fake = FakeLoopai()
    >>> fake.task("spam").returns({"label": "spam"})
    <FakeTask 'spam'>
    >>> with fake.client() as client:
    ...     client.execute("spam", {"text": "Claim your prize"}).output
    {'label': 'spam'}
    >>> fake.task("spam").inputs
    [{'text': 'Claim your prize'}]

Code that makes its own client takes the fake as `transport`: `LoopaiClient(transport=fake)`, in Django
`LOOPAI = {"default": {"TRANSPORT": fake}}`. Programs may compute, fail or answer in turn, and requests may fail::

    >>> fake.task("count").computes(lambda given: len(given["text"]))
    <FakeTask 'count'>
    >>> fake.task("turns").returns_each(["first", ProgramError("no second")])
    <FakeTask 'turns'>
    >>> fake.rate_limits(times=2, retry_after=1)
    <FakeLoopai tasks=3 requests=2>
    >>> with fake.client(raise_on_error=False) as client:
    ...     [result.output for result in client.batch_execute("count", [{"text": "a"}, {"text": "bc"}]).results]
    ...     [client.execute("turns", None).error_message for _ in range(2)]
    [1, 2]
    [None, 'no second']
    >>> len(fake.requests), len(fake.calls)
    (9, 5)

Of these requests three list a task's artifacts, which a client does before its first execution of a task.

The pytest plugin that comes with loopai has the fixture `loopai_fake`.
"""

from __future__ import annotations

from .deliveries import SignedWebhook, signed_webhook
from .fake import FakeLoopai
from .programming import Call, Certain, FakeOperation, FakeTask, NotProgrammed, ProgramError

__all__ = [
    "Call",
    "Certain",
    "FakeLoopai",
    "FakeOperation",
    "FakeTask",
    "NotProgrammed",
    "ProgramError",
    "SignedWebhook",
    "signed_webhook",
]
