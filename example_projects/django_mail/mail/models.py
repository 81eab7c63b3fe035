"""`Message`: an e-mail and its verdict; `Notice`: a report of the server. The server is not called here."""

from __future__ import annotations

from django.db import models
from django.db.models import Count, F, Q
from django.urls import reverse

from .reading import excerpt, readable


class Label(models.TextChoices):
    SPAM = "spam", "Spam"
    HAM = "ham", "Not spam"


class Messages(models.QuerySet["Message"]):
    """Messages by their verdicts."""

    def judged(self) -> Messages:
        return self.exclude(label="")

    def unjudged(self) -> Messages:
        return self.filter(label="")

    def mistaken(self) -> Messages:
        """Messages whose verdict differs from the known right answer."""
        return self.judged().exclude(known="").exclude(label=F("known"))

    def containing(self, text: str) -> Messages:
        return self.filter(Q(subject__icontains=text) | Q(body__icontains=text)) if text else self

    def counts(self) -> dict[str, int]:
        """How many there are, and of each kind: one query."""
        judged, known = ~Q(label=""), ~Q(known="")
        counts: dict[str, int] = self.aggregate(
            all=Count("pk"),
            spam=Count("pk", filter=Q(label=Label.SPAM)),
            ham=Count("pk", filter=Q(label=Label.HAM)),
            unjudged=Count("pk", filter=Q(label="")),
            compared=Count("pk", filter=judged & known),
            mistaken=Count("pk", filter=judged & known & ~Q(label=F("known"))),
            hits=Count("pk", filter=Q(label=Label.SPAM, known=Label.SPAM)),
            known_spam=Count("pk", filter=judged & Q(known=Label.SPAM)),
            known_calls=Count("pk", filter=Q(label=Label.SPAM) & known),
        )
        return counts


class Message(models.Model):
    """An e-mail. `label` is the program's verdict, `known` the right answer, if somebody has entered it."""

    source_id = models.CharField("id", max_length=100, unique=True, help_text="Where it came from; names it once.")
    subject = models.CharField(max_length=500, blank=True)
    body = models.TextField()
    label = models.CharField("verdict", max_length=4, choices=Label.choices, blank=True, db_index=True)
    known = models.CharField("right answer", max_length=4, choices=Label.choices, blank=True)
    imported_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = Messages.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.subject or "(no subject)"

    def get_absolute_url(self) -> str:
        return reverse("mail:message", args=[self.pk])

    @property
    def excerpt(self) -> str:
        """The first words."""
        return excerpt(self.body)

    @property
    def text(self) -> str:
        """The body as a person reads it."""
        return readable(self.body)

    @property
    def is_mistaken(self) -> bool:
        return bool(self.label and self.known and self.label != self.known)


class Notice(models.Model):
    """What a webhook reported, until somebody has read it."""

    event_type = models.CharField(max_length=50)
    text = models.CharField(max_length=500)
    is_serious = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.text
