"""The task `spam`: its name, input and output."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

TASK = "spam"


class Email(BaseModel):
    """What the program sees: neither the id nor the right answer."""

    subject: str = ""
    body: str


class Verdict(BaseModel):
    label: Literal["spam", "ham"]
