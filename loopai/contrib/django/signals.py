"""Signals for webhook events, and for runs that the admin resumes. Other modules send them.

@receiver(canary_rollback)
def on_rollback(sender, event, alias, **kwargs): ...
"""

from __future__ import annotations

from django.dispatch import Signal

from ...models import EVENT_TYPES

loopai_event = Signal()
"""Sent for every new, verified webhook event, with `event` (`loopai.models.WebhookEvent`) and `alias`, whose secret
signed it. Receivers run in one transaction with the record of the delivery: if one raises, both are rolled back, and
the server's next attempt is handled. Use `transaction.on_commit` for slow work."""

program_execution_failed = Signal()
"""Like `loopai_event`, for `programExecutionFailed`."""
validation_failed = Signal()
"""Like `loopai_event`, for `validationFailed`."""
program_improved = Signal()
"""Like `loopai_event`, for `programImproved`."""
canary_rollback = Signal()
"""Like `loopai_event`, for `canaryRollback`."""
canary_completed = Signal()
"""Like `loopai_event`, for `canaryCompleted`."""
ab_test_completed = Signal()
"""Like `loopai_event`, for `abTestCompleted`."""

BY_TYPE = {
    "programExecutionFailed": program_execution_failed,
    "validationFailed": validation_failed,
    "programImproved": program_improved,
    "canaryRollback": canary_rollback,
    "canaryCompleted": canary_completed,
    "abTestCompleted": ab_test_completed,
}
"""The signal of each event type."""

batch_requested = Signal()
"""Sent after the commit of a request to resume a run, with `run` (`BatchRun`); `run.mode` is what is requested. Engines
that start work by themselves listen to it; others see the request when their command is run."""

assert tuple(BY_TYPE) == EVENT_TYPES  # noqa: S101  # one signal per type
