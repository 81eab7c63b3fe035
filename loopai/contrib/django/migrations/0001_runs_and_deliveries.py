"""Batch runs with their failed rows and parts, webhook deliveries, and the rows that `enrich` has work for."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """The first tables."""

    initial = True

    dependencies: list[Any] = []

    operations = [
        migrations.CreateModel(
            name="BatchRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("task", models.CharField(help_text="Name or id of the task.", max_length=200)),
                (
                    "alias",
                    models.CharField(default="default", help_text="Alias in the LOOPAI setting.", max_length=100),
                ),
                (
                    "source",
                    models.CharField(help_text="The queryset's model and manager method.", max_length=500),
                ),
                (
                    "engine",
                    models.CharField(
                        choices=[("inline", "inline"), ("celery", "Celery")], default="inline", max_length=20
                    ),
                ),
                (
                    "fingerprint",
                    models.CharField(db_index=True, help_text="Digest of task, source and mapping.", max_length=64),
                ),
                (
                    "options",
                    models.JSONField(blank=True, default=dict, help_text="The run's options."),
                ),
                (
                    "command",
                    models.JSONField(blank=True, default=list, help_text="The command as it was typed, word by word."),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("running", "running"),
                            ("finished", "finished"),
                            ("cancelled", "cancelled"),
                            ("stopped", "stopped"),
                            ("interrupted", "interrupted"),
                        ],
                        db_index=True,
                        default="pending",
                        max_length=20,
                    ),
                ),
                (
                    "mode",
                    models.CharField(
                        choices=[("run", "run"), ("resume", "resume"), ("retry_failed", "retry failed rows")],
                        default="run",
                        max_length=20,
                    ),
                ),
                ("cancel_requested", models.BooleanField(default=False)),
                ("error", models.TextField(blank=True, help_text="Why the run stopped.")),
                ("mark", models.TextField(blank=True, help_text="Every row up to this key is finished.", null=True)),
                ("upper_key", models.TextField(blank=True, help_text="The highest key when the run began.", null=True)),
                (
                    "finished_ranges",
                    models.JSONField(
                        blank=True, default=list, help_text="Finished ranges beyond the mark: after, up to."
                    ),
                ),
                ("total", models.PositiveBigIntegerField(blank=True, null=True)),
                ("ok", models.PositiveBigIntegerField(default=0)),
                ("errors", models.PositiveBigIntegerField(default=0)),
                ("skipped", models.PositiveBigIntegerField(default=0)),
                (
                    "tally",
                    models.JSONField(blank=True, default=dict, help_text="What workers counted, without failed rows."),
                ),
                (
                    "compared",
                    models.PositiveBigIntegerField(default=0, help_text="Rows whose right answer is known (--expect)."),
                ),
                (
                    "correct",
                    models.PositiveBigIntegerField(default=0, help_text="Compared rows whose result was right."),
                ),
                (
                    "started_by",
                    models.CharField(blank=True, help_text="User and host that started it.", max_length=200),
                ),
                ("owner", models.CharField(blank=True, max_length=200)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("heartbeat_at", models.DateTimeField(blank=True, null=True)),
                (
                    "refused_since",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Since when the rate limiter has refused every request.",
                        null=True,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "active_seconds",
                    models.FloatField(default=0.0, help_text="Working time, without the pauses between resumes."),
                ),
            ],
            options={
                "verbose_name": "batch run",
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="HandledEvent",
            fields=[
                (
                    "event_id",
                    models.UUIDField(help_text="The id inside the signed body.", primary_key=True, serialize=False),
                ),
                ("event_type", models.CharField(max_length=50)),
                (
                    "alias",
                    models.CharField(
                        help_text="Alias in the LOOPAI setting whose secret signed the event.", max_length=100
                    ),
                ),
                ("task_id", models.UUIDField(blank=True, null=True)),
                ("severity", models.CharField(blank=True, max_length=50)),
                ("message", models.TextField(blank=True, help_text="The server's message.")),
                ("payload", models.TextField(blank=True, help_text="The event's data, as JSON.")),
                ("sent_at", models.DateTimeField(help_text="Time in the signed body.")),
                ("received_at", models.DateTimeField(auto_now_add=True, db_index=True)),
            ],
            options={
                "verbose_name": "handled event",
                "verbose_name_plural": "handled events",
                "ordering": ["-received_at"],
            },
        ),
        migrations.CreateModel(
            name="BatchPart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("after", models.TextField(blank=True, help_text="The part begins after this key.", null=True)),
                ("upto", models.TextField(help_text="The part ends with this key.")),
                ("owner", models.CharField(blank=True, max_length=200)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.PositiveIntegerField(default=0)),
                (
                    "lost",
                    models.PositiveIntegerField(
                        default=0, help_text="Workers that stopped responding while they ran it."
                    ),
                ),
                ("error", models.TextField(blank=True, help_text="Why the part was given up.")),
                (
                    "failed",
                    models.BooleanField(
                        default=False, help_text="The keys are those of recorded failures, which run again."
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="parts", to="loopai.batchrun"
                    ),
                ),
            ],
            options={
                "verbose_name": "part of a run",
                "verbose_name_plural": "parts of runs",
                "ordering": ["pk"],
            },
        ),
        migrations.CreateModel(
            name="BatchFailure",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(editable=False, max_length=32)),
                ("key", models.TextField(help_text="Primary key of the row.")),
                ("code", models.CharField(max_length=50)),
                ("message", models.TextField(blank=True)),
                (
                    "latency_ms",
                    models.FloatField(blank=True, help_text="As reported by the server, in milliseconds.", null=True),
                ),
                ("compared", models.BooleanField(default=False, help_text="The row's right answer is known.")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="failures", to="loopai.batchrun"
                    ),
                ),
            ],
            options={
                "verbose_name": "failed row",
                "ordering": ["pk"],
                "constraints": [models.UniqueConstraint(fields=("run", "digest"), name="loopai_one_failure_a_row")],
            },
        ),
        migrations.CreateModel(
            name="PendingRow",
            fields=[
                ("id", models.CharField(editable=False, max_length=32, primary_key=True, serialize=False)),
                ("declaration", models.CharField(help_text="Name of the declaration of enrich.", max_length=100)),
                ("key", models.TextField(help_text="Primary key of the row.")),
                ("revision", models.BigIntegerField(default=1, help_text="Incremented by each save of the row.")),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "pending"), ("failed", "failed")], default="pending", max_length=10
                    ),
                ),
                ("due_at", models.DateTimeField(help_text="Earliest time at which it may run.")),
                (
                    "tries",
                    models.PositiveIntegerField(default=0, help_text="Failed attempts since the last save."),
                ),
                ("owner", models.CharField(blank=True, default="", max_length=200)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("code", models.CharField(blank=True, default="", max_length=50)),
                ("message", models.TextField(blank=True, default="", help_text="Why the last attempt failed.")),
                (
                    "version",
                    models.PositiveIntegerField(blank=True, help_text="Version of the program that failed.", null=True),
                ),
                ("created_at", models.DateTimeField(help_text="When a save of the row first created this entry.")),
            ],
            options={
                "verbose_name": "pending row",
                "ordering": ["due_at"],
                "indexes": [models.Index(fields=["declaration", "state", "due_at"], name="loopai_pending_due")],
            },
        ),
    ]
