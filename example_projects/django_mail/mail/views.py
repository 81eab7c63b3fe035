"""The pages: inbox, message, a text to try; and the verdict as JSON. They only call `execute`."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from pydantic import ValidationError

from loopai import LoopaiException
from loopai.contrib.django import get_async_client, get_client
from loopai.contrib.django.models import BatchRun

from .forms import TextForm
from .models import Label, Message, Notice
from .task import TASK, Email

PAGE = 25

FILTERS = {"all": "All", "spam": "Spam", "ham": "Not spam", "unjudged": "Not yet judged", "mistaken": "Mistaken"}


@require_GET
def inbox(request: HttpRequest) -> HttpResponse:
    """`?show=` is one of FILTERS, `?q=` a search, `?page=` a page."""
    show = request.GET.get("show", "all")
    show = show if show in FILTERS else "all"
    query = request.GET.get("q", "").strip()
    found = Message.objects.containing(query)
    if show in Label.values:
        found = found.filter(label=show)
    elif show != "all":
        found = getattr(found, show)()
    counts = Message.objects.counts()
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    context = {
        "counts": counts,
        "filters": [(name, title, counts[name]) for name, title in FILTERS.items()],
        "judged": counts["spam"] + counts["ham"],
        "accuracy": 100 * (1 - counts["mistaken"] / counts["compared"]) if counts["compared"] else None,
        "notices": Notice.objects.filter(read_at=None)[:3],
        "page": page,
        "pages": page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
        "query": query,
        "run": BatchRun.objects.first(),
        "show": show,
        "title": FILTERS[show] if show != "all" else "Inbox",
    }
    return render(request, "mail/inbox.html", context)


@require_GET
def message(request: HttpRequest, pk: int) -> HttpResponse:
    shown = get_object_or_404(Message, pk=pk)
    context = {
        "message": shown,
        "text": shown.text,
        "newer": Message.objects.filter(pk__gt=pk).order_by("pk").first(),
        "older": Message.objects.filter(pk__lt=pk).first(),
    }
    return render(request, "mail/message.html", context)


@require_POST
def reclassify(request: HttpRequest, pk: int) -> HttpResponse:
    """Get the program's verdict, save it, and return to the page with the button."""
    judged = get_object_or_404(Message, pk=pk)
    before = judged.label
    try:
        result = get_client().execute(TASK, Email(subject=judged.subject, body=judged.body))
    except LoopaiException as error:
        messages.error(request, f"No verdict: {error.message}")
        return redirect(_back(request, judged))
    judged.label = Label(result.output["label"])
    judged.save(update_fields=["label", "updated_at"])
    again = "still " if before == judged.label else ""
    text = f"“{judged}” is {again}{judged.get_label_display().lower()}, judged in {result.latency_ms:.1f} ms."
    messages.success(request, text)
    return redirect(_back(request, judged))


def _back(request: HttpRequest, judged: Message) -> str:
    """Return the page that the form names, if it is one of ours; otherwise the message's."""
    wanted = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure()):
        return wanted
    return judged.get_absolute_url()


@require_POST
def read_notice(request: HttpRequest, pk: int) -> HttpResponse:
    Notice.objects.filter(pk=pk, read_at=None).update(read_at=timezone.now())
    return redirect("mail:inbox")


async def try_text(request: HttpRequest) -> HttpResponse:
    """A page to paste a text into, which waits for the verdict without holding a thread."""
    form = TextForm(request.POST if request.method == "POST" else None, label_suffix="")
    context: dict[str, object] = {"form": form, "api": request.build_absolute_uri(reverse("mail:verdict"))}
    status = 200
    if form.is_valid():
        try:
            result = await get_async_client().execute(TASK, Email(**form.cleaned_data))
            context.update(label=Label(result.output["label"]), latency_ms=result.latency_ms)
        except LoopaiException as error:
            context["problem"], status = error.message, 503
    return render(request, "mail/try.html", context, status=status)


@csrf_exempt  # it changes nothing, and uses no cookie
@require_POST
async def verdict(request: HttpRequest) -> JsonResponse:
    """The verdict on `{"subject": …, "body": …}` as JSON."""
    try:
        email = Email.model_validate_json(request.body)
    except ValidationError as error:
        errors = {".".join(map(str, each["loc"])) or "body": each["msg"] for each in error.errors()}
        return JsonResponse({"errors": errors}, status=422)
    try:
        result = await get_async_client().execute(TASK, email)
    except LoopaiException as error:
        return JsonResponse({"error": error.message}, status=503)
    return JsonResponse({"label": result.output["label"], "latency_ms": result.latency_ms})
