"""The database's tables, and the statements on them as SQL. Nothing is run here.

Webhooks, validations and canaries will be further tables; `SCHEMA` counts the changes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from .records import Artifact, ArtifactFacts, Execution, TaskRecord

SCHEMA = 5
"""Schema version, stored in the database's `user_version`; a database with a higher one is refused."""

metadata = sa.MetaData()

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("input_schema", sa.LargeBinary, nullable=False),
    sa.Column("output_schema", sa.LargeBinary, nullable=False),
    sa.Column("examples", sa.LargeBinary, nullable=False),
    sa.Column("accuracy_target", sa.Float, nullable=False),
    sa.Column("latency_target_ms", sa.Integer, nullable=False),
    sa.Column("sampling_rate", sa.Float, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("updated_at", sa.Integer, nullable=False),
    sa.Column("refusal", sa.Text),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("synthesis_strategy", sa.Text, nullable=False),
    sa.Column("confidence_score", sa.Float, nullable=False),
    sa.Column("cyclomatic_complexity", sa.Integer),
    sa.Column("lines_of_code", sa.Integer),
    sa.Column("estimated_latency_ms", sa.Float),
    sa.Column("llm_provider", sa.Text, nullable=False),
    sa.Column("llm_model", sa.Text, nullable=False),
    sa.Column("generation_cost", sa.Float, nullable=False),
    sa.Column("generation_time_sec", sa.Float, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("deployment_percentage", sa.Float, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("deployed_at", sa.Integer),
    sa.Column("verified", sa.Boolean),
    sa.Column("usage", sa.Text),
    sa.Column("estimate", sa.Boolean),
    sa.Column("notes", sa.Text),
    sa.Column("questions", sa.Text),
    # Digests of the examples that it was made from; used to compare versions.
    sa.Column("made_from", sa.LargeBinary),
    sa.UniqueConstraint("task_id", "version"),
)

executions = sa.Table(
    "executions",
    metadata,
    # Rows are written far more often than read: the insertion order is the only key.
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("program_id", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("input", sa.LargeBinary, nullable=False),
    sa.Column("output", sa.LargeBinary),
    sa.Column("error_message", sa.Text),
    sa.Column("latency_ms", sa.Float, nullable=False),
    sa.Column("sampled", sa.Boolean, nullable=False),
    sa.Column("executed_at", sa.Integer, nullable=False),
    sa.Column("confidence", sa.Float),
    sa.Index("ix_executions_task_id", "task_id", "seq"),
)

replies = sa.Table(
    "idempotent_replies",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("location", sa.Text),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("kept_at", sa.Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)

CREATE = tuple(
    str(made(item).compile(dialect=sqlite.dialect()))
    for table in metadata.sorted_tables
    for made, item in [(sa.schema.CreateTable, table), *((sa.schema.CreateIndex, index) for index in table.indexes)]
)
"""The statements that create the tables."""

MIGRATIONS: dict[int, tuple[str, ...]] = {
    2: ("CREATE INDEX ix_executions_task_id ON executions (task_id, seq)",),
    3: (
        "ALTER TABLE artifacts ADD COLUMN verified BOOLEAN",
        "ALTER TABLE artifacts ADD COLUMN usage TEXT",
    ),
    4: ("ALTER TABLE executions ADD COLUMN confidence FLOAT",),
    5: (
        "ALTER TABLE tasks ADD COLUMN refusal TEXT",
        "ALTER TABLE artifacts ADD COLUMN estimate BOOLEAN",
        "ALTER TABLE artifacts ADD COLUMN notes TEXT",
        "ALTER TABLE artifacts ADD COLUMN questions TEXT",
        "ALTER TABLE artifacts ADD COLUMN made_from BLOB",
    ),
}
"""The statements that migrate a database from the previous version to this one."""


def _sql(statement: sa.ClauseElement) -> str:
    """Return a statement's SQL with named parameters: compiled once, so that runs add no cost to SQLite's own."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))


def _names(record: type[Any]) -> list[str]:
    return [field.name for field in fields(record)]


def _columns(table: sa.Table, record: type[Any]) -> list[sa.Column[Any]]:
    return [table.c[field.name] for field in fields(record)]


_of_task = artifacts.c.task_id == sa.bindparam("task_id")
_is_active = artifacts.c.status == sa.literal_column("'active'")
_versions = sa.select(sa.func.count()).where(artifacts.c.task_id == tasks.c.id).scalar_subquery()
_highest_active = (
    sa.select(sa.func.max(artifacts.c.version)).where(artifacts.c.task_id == tasks.c.id, _is_active).scalar_subquery()
)
_task_states = sa.select(*_columns(tasks, TaskRecord), _highest_active, _versions)

INSERT_TASK = _sql(tasks.insert())
TASK_BY_ID = _sql(_task_states.where(tasks.c.id == sa.bindparam("id")))
TASK_BY_NAME = _sql(_task_states.where(tasks.c.name == sa.bindparam("name")))
_last = sa.select(tasks.c.created_at, tasks.c.id).where(tasks.c.id == sa.bindparam("after"))
TASKS_PAGE = _sql(
    sa.select(
        *(sa.literal_column("'[]'") if name == "examples" else tasks.c[name] for name in _names(TaskRecord)),
        _highest_active,
        _versions,
    )
    .where(
        sa.or_(
            sa.bindparam("after") == sa.literal_column("''"),
            sa.tuple_(tasks.c.created_at, tasks.c.id) > _last.scalar_subquery(),
        )
    )
    .order_by(tasks.c.created_at, tasks.c.id)
    .limit(sa.bindparam("most"))
    .offset(sa.literal_column("0"))
)
COUNT_TASKS = _sql(sa.select(sa.func.count()).select_from(tasks))
TASK_ID_BY_NAME = _sql(sa.select(tasks.c.id).where(tasks.c.name == sa.bindparam("name")))
RUNNING_OF_TASK = _sql(
    sa.select(tasks.c.sampling_rate, tasks.c.input_schema, tasks.c.output_schema).where(
        tasks.c.id == sa.bindparam("id")
    )
)
EXAMPLES_SIZE = _sql(sa.select(sa.func.length(tasks.c.examples)).where(tasks.c.id == sa.bindparam("id")))

SET_EXAMPLES = _sql(
    tasks.update()
    .where(tasks.c.id == sa.bindparam("task_id"))
    .values(examples=sa.bindparam("new_examples"), updated_at=sa.bindparam("moment"), refusal=sa.null())
)
SET_REFUSAL = _sql(
    tasks.update().where(tasks.c.id == sa.bindparam("task_id")).values(refusal=sa.bindparam("new_refusal"))
)
DELETE_TASK = _sql(tasks.delete().where(tasks.c.id == sa.bindparam("task_id")))

INSERT_ARTIFACT = _sql(
    artifacts.insert().values({name: sa.bindparam(name) for name in (*_names(Artifact), "made_from")})
)
MADE_FROM = _sql(sa.select(artifacts.c.made_from).where(artifacts.c.id == sa.bindparam("id")))
SET_STATUS = _sql(
    artifacts.update()
    .where(_of_task, artifacts.c.version == sa.bindparam("of_version"))
    .values(
        status=sa.bindparam("new_status"),
        deployment_percentage=sa.bindparam("percentage"),
        deployed_at=sa.func.coalesce(sa.bindparam("moment"), artifacts.c.deployed_at),
    )
)
RETIRE_HIGHER = _sql(
    artifacts.update()
    .where(_of_task, _is_active, artifacts.c.version > sa.bindparam("of_version"))
    .values(status=sa.literal_column("'deprecated'"), deployment_percentage=sa.literal_column("0"))
)
DELETE_ARTIFACTS = _sql(artifacts.delete().where(_of_task))
ARTIFACTS_OF_TASK = _sql(sa.select(*_columns(artifacts, Artifact)).where(_of_task).order_by(artifacts.c.version))
FACTS_OF_TASK = _sql(sa.select(*_columns(artifacts, ArtifactFacts)).where(_of_task).order_by(artifacts.c.version))
ARTIFACT = _sql(
    sa.select(*_columns(artifacts, Artifact)).where(_of_task, artifacts.c.version == sa.bindparam("version"))
)
HIGHEST_VERSION = _sql(sa.select(sa.func.max(artifacts.c.version)).where(_of_task))
VERSIONS_BY_TASK = _sql(sa.select(artifacts.c.task_id, sa.func.count()).group_by(artifacts.c.task_id))
ACTIVE_PROGRAM = _sql(
    sa.select(artifacts.c.id, artifacts.c.version).where(_of_task, _is_active).order_by(artifacts.c.version.desc())
)
PROGRAM_OF_VERSION = _sql(
    sa.select(artifacts.c.id, artifacts.c.version).where(_of_task, artifacts.c.version == sa.bindparam("version"))
)
CODE = _sql(sa.select(artifacts.c.code, artifacts.c.language).where(artifacts.c.id == sa.bindparam("id")))

INSERT_EXECUTION = _sql(executions.insert().values({item.name: sa.bindparam(item.name) for item in fields(Execution)}))

EXECUTIONS_PAGE = _sql(
    sa.select(executions.c.seq, *_columns(executions, Execution))
    .where(
        executions.c.task_id == sa.bindparam("task_id"),
        executions.c.seq < sa.bindparam("before"),
        sa.or_(
            sa.bindparam("status") == sa.literal_column("''"),
            (executions.c.error_message.is_(None)) == (sa.bindparam("status") == sa.literal_column("'success'")),
        ),
    )
    .order_by(executions.c.seq.desc())
    .limit(sa.bindparam("most"))
    .offset(sa.literal_column("0"))
)
DELETE_EXECUTIONS_OF_TASK = _sql(
    executions.delete().where(
        executions.c.seq.in_(
            sa.select(executions.c.seq)
            .where(executions.c.task_id == sa.bindparam("task_id"))
            .limit(sa.bindparam("most"))
            .offset(sa.literal_column("0"))
        )
    )
)
DELETE_OLD_EXECUTIONS = _sql(
    executions.delete().where(
        executions.c.seq.in_(
            sa.select(executions.c.seq)
            .where(executions.c.executed_at < sa.bindparam("since"))
            .order_by(executions.c.seq)
            .limit(sa.bindparam("most"))
            .offset(sa.literal_column("0"))
        )
    )
)

_kept = sqlite.insert(replies)
KEEP_REPLY = _sql(
    _kept.on_conflict_do_update(
        index_elements=[replies.c.key],
        set_={name: _kept.excluded[name] for name in ("fingerprint", "status", "location", "body", "kept_at")},
        where=replies.c.kept_at <= sa.bindparam("since"),
    )
)
REPLY = _sql(
    sa.select(replies.c.fingerprint, replies.c.status, replies.c.location, replies.c.body).where(
        replies.c.key == sa.bindparam("key"), replies.c.kept_at > sa.bindparam("since")
    )
)
DROP_OLD_REPLIES = _sql(replies.delete().where(replies.c.kept_at <= sa.bindparam("since")))
