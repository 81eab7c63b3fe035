"""Messages and notices in the admin; loopai adds its own pages (runs, failures, deliveries)."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from loopai import LoopaiException
from loopai.contrib.django import get_client

from .models import Message, Notice
from .task import TASK, Email


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ("__str__", "label", "known", "updated_at")
    list_filter = ("label", "known")
    search_fields = ("subject", "body", "source_id")
    list_per_page = 50
    actions = ("reclassify",)

    @admin.action(description="Reclassify selected messages", permissions=["change"])
    def reclassify(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """One request for all; many thousands are `loopai_batch`'s."""
        chosen = list(queryset)
        emails = [Email(subject=each.subject, body=each.body) for each in chosen]
        try:
            response = get_client().batch_execute(TASK, emails)
        except LoopaiException as error:
            messages.error(request, f"No verdicts: {error.message}")
            return
        judged = [(message, result) for message, result in zip(chosen, response.results) if result.success]
        for message, result in judged:
            message.label = result.output["label"]
            message.save(update_fields=["label", "updated_at"])
        messages.success(request, f"{len(judged)} of {len(chosen)} messages were judged.")


@admin.register(Notice)
class NoticeAdmin(admin.ModelAdmin):
    list_display = ("text", "event_type", "is_serious", "created_at", "read_at")
    list_filter = ("event_type", "is_serious")
