"""Admin pages: runs with progress and actions, failed rows, webhook deliveries. All read-only."""

from __future__ import annotations

from typing import Any, Optional

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import ngettext

from ...batch.reporting.progress import clock_time
from . import row_links
from .batches.recording import failures_of
from .enrichment.declarations import registry
from .models import BatchFailure, BatchPart, BatchRun, HandledEvent, PendingRow

MOST_RUNS = 200
"""Most runs in one progress request; a page of the list has 100."""

SHOWN_KINDS = 20
"""Kinds of errors shown on a run's page; the list of failed rows has all of them."""

LONGEST_SHOWN = 120
"""Most characters of a text in a list."""

THINNEST = 1.5
"""Minimum width of failed rows in a bar, in per cent, so that a few among many are visible."""


class _Page(admin.ModelAdmin):
    """Common parts of our pages."""

    change_list_template = "admin/loopai/change_list.html"
    empty_text = ""
    empty_command = ""

    class Media:
        """Static files, because a strict Content-Security-Policy forbids inline code."""

        js = ("loopai/progress.js",)
        css = {"all": ("loopai/progress.css",)}

    def changelist_view(self, request: HttpRequest, extra_context: Optional[dict[str, Any]] = None) -> HttpResponse:
        """The list; an empty one says how to get entries."""
        empty = {"loopai_empty": self.empty_text, "loopai_empty_command": self.empty_command}
        return super().changelist_view(request, {**empty, **(extra_context or {})})


class _ReadOnly(_Page):
    """Rows are written by commands and views, not by hand; deleting needs the usual permission."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def _link(url: Optional[str], text: str) -> str:
    return "–" if url is None else str(format_html('<a href="{}">{}</a>', url, text))


class _Given(admin.AllValuesFieldListFilter):
    """All values except the empty one: a link without text is useless."""

    lookup_choices: Any

    def __init__(self, field: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(field, *arguments, **named)
        self.lookup_choices = self.lookup_choices.exclude(**{field.name: ""})


class _Asked:
    """An action on a run: the model's method, and the message afterwards."""

    def __init__(self, label: str, method: str, flag: Optional[str]) -> None:
        self.label = label
        self.method = method
        self.flag = flag


_ASKED = {
    "cancel": _Asked("Cancel", "request_cancel", None),
    "resume": _Asked("Resume", "request_resume", "--resume"),
    "retry": _Asked("Retry failed rows", "request_retry", "--retry-failed"),
}


@admin.register(BatchRun)
class BatchRunAdmin(_Page):
    """Runs. With the change permission, users can cancel, resume and retry; nothing is edited by hand."""

    empty_text = "No run yet. A run takes the rows of a model through a task and saves the results to them. Start one:"
    empty_command = "python manage.py loopai_batch TASK --queryset app.Model --save-to FIELD=output.MEMBER"
    list_display = ("task", "progress", "source", "duration", "created_at")
    list_filter = ("state", "engine", "alias", "task")
    search_fields = ("task", "source")
    actions = ("cancel", "resume", "retry")
    change_form_template = "admin/loopai/batchrun/change_form.html"
    # The figures that people look for are on the card above.
    fieldsets = (
        (
            "Internals",
            {
                "classes": ("collapse",),
                "fields": (
                    "alias", "engine", "mode", "cancel_requested", "mark", "upper_key", "finished_ranges", "options",
                    "owner", "lease_until", "heartbeat_at", "created_at", "started_at", "finished_at", "active_seconds",
                ),
            },
        ),
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Runs are made by `loopai_batch`."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """All fields."""
        return [name for _, options in self.fieldsets for name in options["fields"]]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BatchRun]:
        """Return runs of the primary database: actions must not go to a replica."""
        queryset: QuerySet[BatchRun] = super().get_queryset(request).using(router.db_for_write(BatchRun))
        return queryset

    def get_urls(self) -> list[Any]:
        """Add the URL that progress is refreshed from."""
        refresh = path("progress/", self.admin_site.admin_view(self.progress_view), name="loopai_batchrun_progress")
        return [refresh, *super().get_urls()]

    # The list

    @admin.display(description="duration", ordering="active_seconds")
    def duration(self, run: BatchRun) -> str:
        """The time at work."""
        return clock_time(run.active_seconds)

    @admin.display(description="outcome", ordering="state")
    def progress(self, run: BatchRun) -> str:
        """Return a bar that updates itself."""
        url = reverse("admin:loopai_batchrun_progress", current_app=self.admin_site.name)
        return str(
            format_html(
                '<span data-loopai-run="{}" data-loopai-part="row" data-loopai-url="{}">{}</span>',
                run.pk,
                url,
                self._rendered("row", run),
            )
        )

    @admin.action(description="Cancel selected runs", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[BatchRun]) -> None:
        """Request that the runs are cancelled."""
        self._ask_all(request, queryset, "cancel")

    @admin.action(description="Resume selected runs", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[BatchRun]) -> None:
        """Request that the runs are resumed."""
        self._ask_all(request, queryset, "resume")

    @admin.action(description="Retry failed rows of selected runs", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet[BatchRun]) -> None:
        """Request that failed rows run again."""
        self._ask_all(request, queryset, "retry")

    def _ask_all(self, request: HttpRequest, queryset: QuerySet[BatchRun], what: str) -> None:
        runs = list(queryset)
        asked = [run for run in runs if self._ask(request, run, what)]
        if asked:
            text = ngettext("Requested for %d run: %s.", "Requested for %d runs: %s.", len(asked))
            messages.success(request, text % (len(asked), _ASKED[what].label.lower()))
        if len(asked) < len(runs):
            left = len(runs) - len(asked)
            text = ngettext("%d run has nothing to %s now.", "%d runs have nothing to %s now.", left)
            messages.warning(request, text % (left, what))

    def _ask(self, request: HttpRequest, run: BatchRun, what: str) -> bool:
        asked = _ASKED[what]
        if not getattr(run, asked.method)():
            return False
        self.log_change(request, run, f"{asked.label} requested.")
        if asked.flag is not None and run.engine == BatchRun.Engine.INLINE:
            command = run.command_line(asked.flag)
            text = f"{run} continues once its command is run" + (f": {command}" if command else ".")
            messages.info(request, text)
        return True

    # One run

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Optional[dict[str, Any]] = None
    ) -> HttpResponse:
        """Show the page of a run; its buttons post actions."""
        run = self.get_object(request, unquote(object_id))
        what = request.POST.get("loopai_ask", "")
        if request.method == "POST" and run is not None:
            # Nothing is edited here: a POST requests one of the three actions, or nothing.
            if not self.has_change_permission(request, run):
                raise PermissionDenied
            if what in _ASKED:
                self._ask_all(request, self.get_queryset(request).filter(pk=run.pk), what)
            return HttpResponseRedirect(request.path)
        context = {
            "title": "Batch run",
            "subtitle": None,  # the card shows it
            "loopai_refresh": reverse("admin:loopai_batchrun_progress", current_app=self.admin_site.name),
            **(extra_context or {}),
        }
        if run is not None:
            context["loopai_panel"] = self._rendered("panel", run)
            context["loopai_asked"] = self._open_to(request, run)
            context["loopai_commands"] = _commands(run)
        return super().change_view(request, object_id, form_url, context)

    def _open_to(self, request: HttpRequest, run: BatchRun) -> list[tuple[str, str]]:
        if not self.has_change_permission(request, run):
            return []
        going = run.is_live() or run.state == BatchRun.State.PENDING
        # An inline run waits for its command, which the page shows: a button for it would do nothing.
        by_workers = run.engine != BatchRun.Engine.INLINE and not going
        can = {
            "cancel": going and not run.cancel_requested,
            "resume": by_workers and run.state != BatchRun.State.FINISHED,
            "retry": by_workers and run.errors > 0,
        }
        return [(what, asked.label) for what, asked in _ASKED.items() if can[what]]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse to delete a run in progress: cancel it first."""
        return super().has_delete_permission(request, obj) and not (isinstance(obj, BatchRun) and obj.is_live())

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return how many objects would be deleted: a run may have 100,000 failed rows, too many to list."""
        runs = list(objs)
        live = [str(run) for run in runs if run.is_live()]
        counts = {
            BatchRun._meta.verbose_name_plural: len(runs),
            BatchFailure._meta.verbose_name_plural: sum(failures_of(run).count() for run in runs),
            BatchPart._meta.verbose_name_plural: sum(
                BatchPart.objects.using(run.database).filter(run_id=run.pk).count() for run in runs
            ),
        }
        needed = set() if self.has_delete_permission(request) else {BatchRun._meta.verbose_name}
        return [str(run) for run in runs], counts, needed, [f"{run} is running" for run in live]

    # Progress

    def progress_view(self, request: HttpRequest) -> HttpResponse:
        """Return the progress of the requested runs (`?run=1&run=2&part=row`) as HTML, and whether any is active."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        part = "panel" if request.GET.get("part") == "panel" else "row"
        wanted = [int(text) for text in request.GET.getlist("run")[:MOST_RUNS] if text.isdecimal() and len(text) < 19]
        runs = list(self.get_queryset(request).filter(pk__in=wanted))
        rendered = {str(run.pk): self._rendered(part, run) for run in runs}
        live = any(run.is_live() or run.state == BatchRun.State.PENDING for run in runs)
        return JsonResponse({"runs": rendered, "live": live})

    def _rendered(self, part: str, run: BatchRun) -> str:
        now = timezone.now()
        figures = run.snapshot()
        context: dict[str, Any] = {
            "run": run, "live": run.is_live(now), "stalled": run.is_stalled(now), "figures": figures,
            "percent": None if figures.fraction is None else f"{figures.fraction * 100:.1f}",
            "bar": _bar(run),
        }  # fmt: skip
        if part == "panel":
            kinds = failures_of(run).order_by().values("code").annotate(rows=Count("pk")).order_by("-rows", "code")
            accuracy = run.accuracy
            context.update(
                duration=clock_time(run.active_seconds),
                left=None if figures.left is None else clock_time(figures.left),
                accuracy=None if accuracy is None else f"{accuracy:.1%}",
                kinds=kinds[:SHOWN_KINDS],
                options={name.replace("_", " "): text for name, text in figures.options.items()},
                failures=reverse("admin:loopai_batchfailure_changelist", current_app=self.admin_site.name),
                rows=row_links.list_url(self.admin_site, run.options.get("queryset") or run.source),
            )
        return str(render_to_string(f"admin/loopai/batchrun/progress_{part}.html", context))


def _bar(run: BatchRun) -> Optional[list[tuple[str, str, str]]]:
    """Return the parts of a run's bar: kind, start and width in per cent; `None` if the run's size is unknown."""
    if not run.total:
        return None
    parts, at = [], 0.0
    for kind, rows in (("ok", run.ok), ("failed", run.errors), ("skipped", run.skipped)):
        width = min(100.0 * rows / run.total, 100.0 - at)
        if rows and kind == "failed":
            width = max(width, THINNEST)
        parts.append((kind, f"{min(at, 100.0 - width):.2f}", f"{width:.2f}"))
        at += width
    return [part for part in parts if float(part[2]) > 0]


def _commands(run: BatchRun) -> list[tuple[str, str]]:
    """Return the commands for a run, with their purpose; for an inline run also those that replace the buttons."""
    inline, over = run.engine == BatchRun.Engine.INLINE, run.state == BatchRun.State.FINISHED
    if run.is_live() or not run.command:
        return [("Started by", run.command_line())] if run.command else []
    found = []
    if inline and not over:
        found.append(("To resume it, run", run.command_line("--resume")))
    if inline and run.errors:
        found.append(("To repeat its failed rows, run", run.command_line("--retry-failed")))
    return found or [("Started by", run.command_line())]


@admin.register(BatchFailure)
class BatchFailureAdmin(_ReadOnly):
    """Failed rows, by run and kind."""

    empty_text = "No row has failed. Rows that a run could not finish are listed here, with the reason."
    list_display = ("key", "code", "short_message", "run_link", "row_link", "created_at")
    readonly_fields = ("run_link", "row_link")
    fields = ("key", "code", "message", "run_link", "row_link", "latency_ms", "created_at")
    list_filter = (("code", _Given),)
    list_select_related = ("run",)
    search_fields = ("key", "message")
    show_full_result_count = False

    @admin.display(description="message")
    def short_message(self, failure: BatchFailure) -> str:
        """The start of the message."""
        return _short(failure.message)

    @admin.display(description="run", ordering="run")
    def run_link(self, failure: BatchFailure) -> str:
        """The run's page."""
        url = reverse("admin:loopai_batchrun_change", args=[failure.run_id], current_app=self.admin_site.name)
        return _link(url, str(failure.run))

    @admin.display(description="row")
    def row_link(self, failure: BatchFailure) -> str:
        """The row's own page."""
        run = failure.run
        return _link(row_links.row_url(self.admin_site, run.options.get("queryset") or run.source, failure.key), "Row")

    def lookup_allowed(self, lookup: str, value: Any, *request: HttpRequest) -> bool:
        """Allow filtering by run, because the run's page links here. Django 4.2 passes no request."""
        return lookup == "run__id__exact" or bool(super().lookup_allowed(lookup, value, *request))


@admin.register(HandledEvent)
class HandledEventAdmin(_ReadOnly):
    """Handled events, with the server's message and payload."""

    empty_text = (
        "No delivery yet. Include loopai.contrib.django.urls, set WEBHOOK_SECRETS, and give the server this address:"
    )
    empty_command = "https://YOUR-HOST/loopai/webhook/"
    list_display = ("event_type", "short_message", "severity", "received_at")
    list_filter = ("event_type", ("severity", _Given), "alias")
    search_fields = ("message",)
    fields = (
        "event_type",
        "severity",
        "message",
        "shown_payload",
        "task_id",
        "alias",
        "sent_at",
        "received_at",
        "event_id",
    )
    readonly_fields = ("shown_payload",)

    @admin.display(description="message")
    def short_message(self, event: HandledEvent) -> str:
        """The start of the message."""
        return _short(event.message) or "–"

    @admin.display(description="payload")
    def shown_payload(self, event: HandledEvent) -> str:
        """The data, as JSON."""
        return format_html('<pre class="loopai-payload">{}</pre>', event.payload) if event.payload else "–"


@admin.register(PendingRow)
class PendingRowAdmin(_ReadOnly):
    """Rows waiting for `enrich`, and failed ones with their errors."""

    empty_text = "No row is waiting, and none has failed. Rows that enrich() has queued are listed here until they run:"
    empty_command = "python manage.py loopai_batch --pending"
    list_display = ("key", "declaration", "state", "code", "short_message", "row_link", "due_at")
    readonly_fields = ("row_link",)
    fields = (
        "key", "row_link", "declaration", "state", "code", "message", "tries", "due_at", "revision", "version", "owner",
        "lease_until", "created_at",
    )  # fmt: skip
    list_filter = ("state", "declaration", ("code", _Given))
    search_fields = ("key", "message")
    show_full_result_count = False
    actions = ("retry",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PendingRow]:
        """Return entries of the primary database."""
        queryset: QuerySet[PendingRow] = super().get_queryset(request).using(router.db_for_write(PendingRow))
        return queryset

    @admin.display(description="message")
    def short_message(self, entry: PendingRow) -> str:
        """The start of the message."""
        return _short(entry.message)

    @admin.display(description="row")
    def row_link(self, entry: PendingRow) -> str:
        """The row's own page."""
        declaration = registry.get(entry.declaration)
        label = "" if declaration is None else declaration.model._meta.label
        return _link(row_links.row_url(self.admin_site, label, entry.key), "Row")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run rows again: this needs the change permission, although nothing is edited."""
        return request.user.has_perm("loopai.change_pendingrow")

    @admin.action(description="Run selected rows again", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[PendingRow]) -> None:
        """Make the rows due at once; `loopai_batch --pending` runs them."""
        asked = queryset.order_by().update(state=PendingRow.State.PENDING, due_at=timezone.now(), tries=0)
        text = ngettext("%d row is due again.", "%d rows are due again.", asked)
        messages.success(request, text % asked)
