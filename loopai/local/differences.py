"""The intended differences between the embedded server and the published one, with reasons.

A test sends the recorded requests of the published server to the embedded one and compares the replies with this
table, and the guide prints it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["DIFFERENCES", "Difference"]


@dataclass(frozen=True)
class Difference:
    """One difference, for readers: `what` it concerns, what is `published` and what is `here`, the `reason`.

    For the test: `requests` are patterns for the names of the recorded requests, and each of them is answered with
    `status` and `code` (None: those of the published server), and otherwise at most in `members` of the body, which
    are prefixes of their paths (`*`: in all of it).
    """

    what: str
    published: str
    here: str
    reason: str
    requests: tuple[str, ...]
    status: int | None = None
    code: str | None = None
    members: tuple[str, ...] = ()

    def covers(self, name: str) -> bool:
        """Whether it covers the recorded request of that name."""
        return any(fnmatchcase(name, pattern) for pattern in self.requests)


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "Too many requests",
        "500 `INTERNAL_ERROR`",
        "429 `RATE_LIMIT_EXCEEDED` with `Retry-After`",
        "The published server is configured to answer so, but fails to.",
        ("limiter.execute.31", "limiter.execute.32", "limiter.get.61"),
        status=429,
        code="RATE_LIMIT_EXCEEDED",
        members=("*",),
    ),
    Difference(
        "Items that run at the same time",
        "Most of them fail: they share one database context",
        "All run",
        "A defect of the published server.",
        ("batch.concurrent_10", "batch.concurrent_2"),
        members=(".results",),
    ),
    Difference(
        "`stop_on_first_error`",
        "Ignored",
        "Items after the first failed one are skipped",
        "As the member's name promises.",
        ("batch.stop_on_first",),
        members=(".results",),
    ),
    Difference(
        "Executing an unknown task or version",
        "500 `EXECUTION_ERROR`; 404 is declared and never returned",
        "404 `TASK_NOT_FOUND` or `ARTIFACT_NOT_FOUND`",
        "As the published server declares. The client looks the task up after that 500.",
        ("execute.unknown_task", "execute.unknown_version"),
        status=404,
        members=("*",),
    ),
    Difference(
        "Deleting a task",
        "405",
        "204; the task is gone",
        "An addition, as are more examples, next versions, and activating and retiring a version.",
        ("task.delete",),
        status=204,
        members=("*",),
    ),
    Difference(
        "An item that did not run",
        "No `execution_id`, and a text",
        "The same, with a `code`: `VALIDATION_ERROR`, `SKIPPED`, `EXECUTION_ERROR`, `TASK_NOT_FOUND`, "
        "`ARTIFACT_NOT_FOUND`",
        "An addition: a client can tell that it is final.",
        ("batch.unknown_task", "batch.unknown_version", "batch.version_0"),
        members=(".results",),
    ),
    Difference(
        "An item that is null",
        "500 `BATCH_EXECUTION_ERROR`",
        "400 that names the item",
        "The request is wrong, not the server.",
        ("batch.item_null",),
        status=400,
        members=("*",),
    ),
    Difference(
        "Members in camelCase",
        "400",
        "Read as snake_case",
        "The published Python SDK sends them.",
        ("batch.camel",),
        status=200,
        members=("*",),
    ),
    Difference(
        "The same when a task is created",
        "400",
        "Read as snake_case",
        "The published Python SDK sends them.",
        ("task.create.camel_keys",),
        status=201,
        members=("*",),
    ),
    Difference(
        "`POST /api/v1/tasks/execute`, `GET /api/v1/tasks`",
        "405",
        "Execute a task; list all tasks",
        "The path that the published SDKs call, and an addition.",
        ("task.execute_old_path", "task.list"),
        status=200,
        members=("*",),
    ),
    Difference(
        "An output with half of a surrogate pair",
        "500 `INTERNAL_ERROR` for the call or the whole batch, or a reply that breaks off",
        "The execution, or that item, fails",
        "Output that JSON cannot represent is an error of the program.",
        ("program.lone_surrogate", "batch.lone_surrogate"),
        status=200,
        members=("*",),
    ),
    Difference(
        "A schema with half of a surrogate pair",
        "500 `INTERNAL_ERROR` after the task was stored",
        "400, and nothing is stored",
        "A task that cannot be shown is useless.",
        ("task.create.lone_surrogate_schema",),
        status=400,
        members=("*",),
    ),
    Difference(
        "A body that is not JSON",
        "`errors` names the member that was being read",
        "`errors` names `$`, with line and column",
        "The parser used here knows the position, not the member.",
        (
            "task.create.malformed",
            "task.create.nan",
            "task.create.deep_33",
            "task.create.lone_surrogate",
            "task.create.invalid_utf8",
        ),
        members=("errors",),
    ),
    Difference(
        "A number too large for a double",
        "Read as infinite: `VALIDATION_ERROR`",
        "400 for the body",
        "It could not be written back as part of a schema or an input.",
        ("task.create.huge_number",),
        members=("*",),
    ),
    Difference(
        "A body larger than the limit",
        "500 `INTERNAL_ERROR` above 30,000,000 bytes",
        "413 `PAYLOAD_TOO_LARGE`",
        "A client can distinguish it from a failure, and does not repeat it.",
        ("execute.large_31mb",),
        status=413,
        code="PAYLOAD_TOO_LARGE",
        members=("details", ".details"),
    ),
    Difference(
        "`warnings`, `questions` and `generation` of a task",
        "None",
        "What will not work (a schema that checks nothing, examples that teach nothing, a score below the target), the "
        "inputs whose output would decide, and what became of the last program that was to be made",
        "Additions.",
        (
            "task.create",
            "task.create.null_schema",
            "task.create.schema_scalar",
            "task.create.emoji",
            "task.create.deep_30",
            "task.create.deep_31",
            "generate.fails.get",
        ),
        members=(".warnings", ".questions", ".generation"),
    ),
    Difference(
        "When the first program is made",
        "At the first execution",
        "When the task is created, where it has examples; executions wait for it, and after 25 s are answered 503 with "
        "`Retry-After`",
        "The first execution then takes milliseconds.",
        (),
    ),
    Difference(
        "`active_version` of a task",
        "Kept for ten minutes, so it is missing after a first execution",
        "The version that is active now",
        "A defect of the published server. The client reads the list of artifacts.",
        (
            "task.get",
            "task.get.capital",
            "task.get.braces",
            "task.get.n_format",
            "task.get.accept_text",
            "task.get.after_run",
            "version.v1_0",
            "version.header_1",
            "cors.simple",
            "auth.ignored",
        ),
        members=(".active_version",),
    ),
    Difference(
        "`complexity_metrics` of a program that was pushed",
        "As reported by the generator",
        "Only lines of code",
        "There was no generator.",
        ("artifacts.list", "artifacts.list.after_canary", "artifacts.list.after_first_at_once", "artifacts.get"),
        members=(
            ".complexity_metrics",
            "[0].complexity_metrics",
            "[1].complexity_metrics",
            "[2].complexity_metrics",
            "[3].complexity_metrics",
            "[4].complexity_metrics",
            "[5].complexity_metrics",
        ),
    ),
    Difference(
        "The key of the error for `artifacts/x`",
        "`artifactVersion`",
        "`version`",
        "The server as published does not start; the fix renamed the parameter.",
        ("artifacts.get.bad",),
        members=("errors",),
    ),
    Difference(
        "A time limit of 1 ms",
        "Every run takes longer, because it starts Deno",
        "Short programs succeed",
        "Starting the sandbox does not count as the program's time.",
        ("execute.timeout_1",),
        members=(".output", ".error_message"),
    ),
    Difference(
        "A program that cannot be read or has no `main`",
        "Every execution fails",
        "400 when it is pushed",
        "Errors are reported early.",
        ("program.syntax", "program.no_main", "program.declares_input"),
    ),
    Difference(
        "What programs reach",
        "Files, network, environment and processes of the server",
        "Nothing: an error",
        "Programs are written by a model and run without review.",
        ("program.env",),
        members=(".output", ".error_message"),
    ),
    Difference(
        "A program that prints the markers of the runtime's own protocol",
        "The text between them is its output",
        "The output is what `main` returns",
        "Programs cannot forge results.",
        ("program.marker",),
    ),
    Difference(
        "Timers that a program leaves behind",
        "The execution lasts until they have run or the time limit is reached",
        "The execution ends with `main`, and they are dropped",
        "The output is already known.",
        (),
    ),
    Difference(
        "What the runtime offers besides the language",
        "All of Deno: decorators, imports, Node's modules, `Buffer`, `WebAssembly`, `import('data:…')`",
        "What the guide lists; decorators and imports are syntax errors that say so",
        "A small sandbox can be reviewed.",
        (),
    ),
    Difference(
        "A long error message",
        "Returned in full",
        "Truncated to 2,000 characters",
        "Errors are stored in logs, journals and databases.",
        (),
    ),
    Difference(
        "Cross-origin requests",
        "A preflight is answered with 204",
        "405",
        "The embedded server is for programs on the same machine, not for web pages.",
        ("cors.preflight",),
        status=405,
    ),
    Difference(
        "`X-Real-IP` that is not an address",
        "500 `INTERNAL_ERROR`",
        "The header is not read",
        "The embedded server is not behind a proxy.",
        ("realip.bad",),
        status=200,
        members=("*",),
    ),
    Difference(
        "`GET /`",
        "301 to Swagger in Development, else 404",
        "307 to the documentation",
        "Another framework.",
        ("get /",),
        status=307,
    ),
    Difference(
        "Validation and canary deployments, webhooks",
        "25 endpoints in all",
        "501 `NOT_SUPPORTED` for twelve of them",
        "The embedded server learns from examples and runs programs; it has no monitoring or webhooks.",
        (
            "summary*",
            "recommendations*",
            "improve*",
            "compare*",
            "canary.*",
            "webhook.subscribe*",
            "webhook.list",
            "webhook.history*",
            "webhook.delete*",
        ),
        status=501,
        code="NOT_SUPPORTED",
        members=("*",),
    ),
)
"""All of them, in the order in which the guide shows them."""
