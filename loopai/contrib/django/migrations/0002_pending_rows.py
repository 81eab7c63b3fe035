"""The rows that `enrich` has work for."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """The outbox."""

    dependencies = [
        ("loopai", "0001_runs_and_deliveries"),
    ]

    operations = [
        migrations.CreateModel(
            name="PendingRow",
            fields=[
                ("id", models.CharField(editable=False, max_length=32, primary_key=True, serialize=False)),
                ("declaration", models.CharField(help_text="Name of the declaration of enrich.", max_length=100)),
                ("key", models.TextField(help_text="Primary key of the row.")),
                ("revision", models.BigIntegerField(default=1, help_text="Raised by each save of the row.")),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "pending"), ("failed", "failed")], default="pending", max_length=10
                    ),
                ),
                ("due_at", models.DateTimeField(help_text="Not to be run before.")),
                (
                    "tries",
                    models.PositiveIntegerField(
                        default=0, help_text="Attempts since the last save that did not get through."
                    ),
                ),
                ("owner", models.CharField(blank=True, default="", max_length=200)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("code", models.CharField(blank=True, default="", max_length=50)),
                ("message", models.TextField(blank=True, default="", help_text="Why the last attempt failed.")),
                (
                    "version",
                    models.PositiveIntegerField(blank=True, help_text="Version of the program that failed.", null=True),
                ),
                ("created_at", models.DateTimeField(help_text="When the row was first saved with this work to do.")),
            ],
            options={
                "verbose_name": "pending row",
                "ordering": ["due_at"],
                "indexes": [models.Index(fields=["declaration", "state", "due_at"], name="loopai_pending_due")],
            },
        ),
    ]
