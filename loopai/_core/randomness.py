"""Private random generator, isolated from `random.seed()`: a program's seed does not repeat its numbers."""

from __future__ import annotations

import os
import random

private_random = random.Random()  # noqa: S311  # jitter, samples and idempotency keys have to differ, not to be secret

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=private_random.seed)
