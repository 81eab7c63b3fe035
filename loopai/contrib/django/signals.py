"""Signals: a webhook event that came, and a batch run to be resumed, asked for in the admin. They are sent elsewhere.

@receiver(canary_rollback)
def on_rollback(sender, event, alias, **kwargs): ...
"""

from __future__ import annotations

from django.dispatch import Signal

from ...models import EVENT_TYPES

loopai_event = Signal()
"""Any webhook event, verified and seen for the first time. Gives `event` (`loopai.models.WebhookEvent`) and `alias`,
whose secret signed it. Receivers run in one transaction with the record of the delivery: one that raises undoes both,
and the server's next attempt is handled. Slow work belongs in `transaction.on_commit`."""

program_execution_failed = Signal()
"""As `loopai_event`, for `programExecutionFailed`."""
validation_failed = Signal()
"""As `loopai_event`, for `validationFailed`."""
program_improved = Signal()
"""As `loopai_event`, for `programImproved`."""
canary_rollback = Signal()
"""As `loopai_event`, for `canaryRollback`."""
canary_completed = Signal()
"""As `loopai_event`, for `canaryCompleted`."""
ab_test_completed = Signal()
"""As `loopai_event`, for `abTestCompleted`."""

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
"""A run is to be resumed, after the commit of the request. Gives `run` (`BatchRun`); `run.mode` says what is wanted.
Engines that start work by themselves listen; others find the request when their command is called."""

assert tuple(BY_TYPE) == EVENT_TYPES  # noqa: S101  # one signal a type
