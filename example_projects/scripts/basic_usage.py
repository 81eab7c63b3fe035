"""The first steps: is the server there, make a task, run it on one input, run it on several.

Uses the server at `LOOPAI_BASE_URL`, or an embedded one if that is not set.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Literal

from pydantic import BaseModel

from loopai import LoopaiClient

SPAM = (
    "Free money for you, click here now",
    "You have won a prize, claim it today",
    "Cheap pills, no prescription needed",
    "Make money fast working from home",
    "Claim your free prize money now",
    "Click here for cheap loans today",
    "Win a free holiday, click now",
    "Cheap watches, free shipping, buy now",
    "Earn money fast, no risk, click here",
    "Free prize draw, claim your money",
)
HAM = (
    "The meeting moved to three on Tuesday",
    "Here are my notes from the review",
    "Could you look at the patch I sent",
    "Lunch on Thursday with the whole team",
    "The build broke after the last merge",
    "Thanks for the notes from the meeting",
    "Can we review the plan on Tuesday",
    "I sent the report to the whole team",
    "The patch is merged, thanks for the review",
    "Notes for the team meeting on Thursday",
)
EXAMPLES = [
    *({"input": {"text": text}, "output": {"label": "spam"}} for text in SPAM),
    *({"input": {"text": text}, "output": {"label": "ham"}} for text in HAM),
]


class Message(BaseModel):
    text: str


class Verdict(BaseModel):
    label: Literal["spam", "ham"]


def connect() -> LoopaiClient:
    return LoopaiClient() if os.environ.get("LOOPAI_BASE_URL") else LoopaiClient.local()


async def main() -> None:
    async with connect() as client:
        health = await client.get_health()
        print(f"The server says it is {health.status}, version {health.version}")

        # Schemas are JSON schemas, or pydantic classes that have one. Names are unique on a server.
        task = await client.create_task(
            name=f"spam-{uuid.uuid4().hex[:8]}",
            description="Tell spam from wanted messages",
            input_schema=Message,
            output_schema=Verdict,
            examples=EXAMPLES,
        )
        same = await client.get_task(task.id)
        print(f"Task {same.name} has the id {same.id} and {len(same.examples)} examples")

        # The first execution has the server make the program; later ones only run it.
        result = await client.execute(task.id, {"text": "Claim your free money now"})
        print(f"One execution: {result.output} by version {result.version}")
        result = await client.execute(task.id, {"text": "The review is on Thursday"})
        print(f"Another:       {result.output} in {result.latency_ms:.2f} ms")

        texts = ["Win free money now", "Notes from the meeting", "Cheap pills, click here"]
        batch = await client.batch_execute(task.id, [{"text": text} for text in texts], max_concurrency=10)
        print(f"A batch: {batch.success_count} of {batch.total_items} succeeded")
        for text, row in zip(texts, batch.results):
            print(f"  {row.id}: {text!r} is {row.output}")

        # With types: the input is checked, the output is an object.
        classify = client.bind(task.id, input=Message, output=Verdict)
        verdict = await classify(Message(text="Free prize, click here"))
        print(f"Typed: {verdict!r}")


if __name__ == "__main__":
    asyncio.run(main())
