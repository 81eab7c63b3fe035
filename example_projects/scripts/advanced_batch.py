"""Batches in detail: your own ids, forced validation, stopping at the first error, timeouts, and failed rows.

Uses the server at `LOOPAI_BASE_URL`, or an embedded one if that is not set. It pushes its own program, which only the
embedded server supports.
"""

from __future__ import annotations

import os
import uuid

from loopai import BatchExecuteItem, BatchExecuteRequest, BatchExecuteResponse, SyncLoopaiClient, Task

# Says how long a text is; fails on an empty one, and never ends on one that says so.
PROGRAM = """
def main(input):
    text = input["text"]
    if not text:
        raise ValueError("there is no text")
    while text == "for ever":
        pass
    return {"words": len(text.split())}
"""


def connect() -> SyncLoopaiClient:
    return SyncLoopaiClient() if os.environ.get("LOOPAI_BASE_URL") else SyncLoopaiClient.local()


def make_task(client: SyncLoopaiClient) -> Task:
    task = client.create_task(
        name=f"words-{uuid.uuid4().hex[:8]}",
        description="Count the words of a text",
        input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        output_schema={"type": "object", "properties": {"words": {"type": "integer"}}, "required": ["words"]},
    )
    client.push_program(task.id, PROGRAM)
    return task


def show(title: str, response: BatchExecuteResponse) -> None:
    print(f"{title}: {response.success_count} succeeded, {response.failure_count} failed")
    for row in response.results:
        print(f"  {row.id}: {row.output if row.success else row.error_message}")


def main() -> None:
    with connect() as client:
        task = make_task(client)

        # As one request object …
        request = BatchExecuteRequest(
            task_id=task.id,
            items=[
                BatchExecuteItem(id="email-001", input={"text": "Free money for you"}, force_validation=True),
                BatchExecuteItem(id="email-002", input={"text": "See you on Tuesday"}),
            ],
            max_concurrency=5,
        )
        response = client.batch_execute_advanced(request)
        show("Ids of your own", response)
        forced = [row.id for row in response.results if row.sampled_for_validation]
        print(f"  set aside for validation, at least those forced: {', '.join(forced)}")

        # … or by its parts, with items as dictionaries. A failed row never raises: the others are not lost.
        texts = {"a": "one", "b": "", "c": "one two three"}
        response = client.batch_execute_advanced(
            task_id=task.id, items=[{"id": key, "input": {"text": text}} for key, text in texts.items()]
        )
        show("One row fails", response)
        again = [row.id for row in response.failures()]
        print(f"  to be looked at: {', '.join(again)}")

        # One at a time and stopping at the first error, the rows after it are not run.
        response = client.batch_execute_advanced(
            task_id=task.id,
            items=[{"id": key, "input": {"text": text}} for key, text in texts.items()],
            max_concurrency=1,
            stop_on_first_error=True,
        )
        show("Stopped at the first error", response)

        # `timeout_ms` bounds each row's program; the slow row fails and the others do not wait for it.
        response = client.batch_execute_advanced(
            task_id=task.id,
            items=[{"id": "quick", "input": {"text": "one two"}}, {"id": "endless", "input": {"text": "for ever"}}],
            timeout_ms=200,
        )
        show("A row that takes too long", response)
        if response.reply is not None:
            print(f"  the whole batch took {response.reply.elapsed * 1000:.0f} ms")


if __name__ == "__main__":
    main()
