"""Chance of the library's own: a program's seed does not repeat it, and a program's own draws are not moved by it."""

from __future__ import annotations

import os
import random

chance = random.Random()  # noqa: S311  # for pauses, samples and names that have to differ, not to be secret

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=chance.seed)
