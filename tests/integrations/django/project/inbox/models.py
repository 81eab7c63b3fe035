"""Messages by integer, UUID and text keys."""

from __future__ import annotations

import enum
import uuid
from typing import Optional

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import models


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Message(models.Model):
    text = models.TextField()
    label = models.CharField(max_length=20, blank=True)
    updated_at = models.DateTimeField(auto_now=True)


class Letter(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.TextField()


class Note(models.Model):
    slug = models.CharField(primary_key=True, max_length=50)
    text = models.TextField()


class Reminder(Note):
    due = models.DateField(null=True)


class Diary(models.Model):
    day = models.DateField(primary_key=True)


class Category(models.Model):
    name = models.CharField(max_length=20)


class MailManager(models.Manager):
    def unlabelled(self) -> models.QuerySet:
        return self.filter(label="")

    def first_ten(self) -> models.QuerySet:
        return self.all()[:10]

    faults: list[Exception] = []
    """What the next calls of `fragile` raise."""

    def fragile(self) -> models.QuerySet:
        if self.faults:
            raise self.faults[0]
        return self.all()

    def names(self) -> list[str]:
        return []


class Mail(models.Model):
    """A row with a field of each kind that a result may go into."""

    subject = models.CharField(max_length=100)
    message = models.ForeignKey(Message, null=True, on_delete=models.CASCADE)
    facts = models.JSONField(null=True)
    label = models.CharField(max_length=8, blank=True, choices=[("spam", "spam"), ("ham", "ham")])
    score = models.IntegerField(null=True, blank=True)
    share = models.DecimalField(max_digits=5, decimal_places=2, null=True, blank=True)
    milliseconds = models.FloatField(null=True)
    verdict = models.JSONField(null=True, blank=True)
    category = models.ForeignKey(Category, null=True, blank=True, on_delete=models.SET_NULL)
    code = models.CharField(max_length=10, null=True, blank=True, unique=True)
    judged_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = MailManager()


class LiveManager(models.Manager):
    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().filter(hidden=False)


class Entry(models.Model):
    """A row that forms would leave blank, with values that count digits, hidden ones, and a proxy."""

    text = models.CharField(max_length=20)
    hidden = models.BooleanField(default=False)
    data = models.JSONField(default=dict)
    tags = models.JSONField(default=list)
    title = models.CharField(max_length=20, default="x")
    price = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    share = models.FloatField(null=True)
    day = models.DateField(null=True)
    seen_at = models.DateTimeField(null=True)
    rank = models.IntegerField(null=True)
    flag = models.BooleanField(null=True)
    uid = models.UUIDField(null=True)
    lasts = models.DurationField(null=True)
    at = models.TimeField(null=True)
    address = models.GenericIPAddressField(null=True)
    link = models.URLField(null=True)
    blob = models.BinaryField(null=True)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)

    objects = LiveManager()
    everything = models.Manager()


class ShownEntry(Entry):
    class Meta:
        proxy = True


class PrefixedIdField(models.BigAutoField):
    """`entry_7` in Python, 7 in the database."""

    def from_db_value(self, value: int, expression: object, connection: object) -> str:
        return f"entry_{value}"

    def to_python(self, value: object) -> object:
        return value

    def get_prep_value(self, value: object) -> object:
        return int(value.removeprefix("entry_")) if isinstance(value, str) else value

    def get_db_prep_value(self, value: object, connection: object, prepared: bool = False) -> object:
        return self.get_prep_value(value)


class Prefixed(models.Model):
    id = PrefixedIdField(primary_key=True)
    text = models.CharField(max_length=20)
    label = models.CharField(max_length=20, blank=True)


class Ranked(models.Model):
    """Ranks differ, which PostgreSQL sees at the commit."""

    text = models.CharField(max_length=20)
    rank = models.IntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rank"], name="inbox_one_rank", deferrable=models.Deferrable.DEFERRED)
        ]


class Unreadable(Exception):
    """What a library raises that cannot decrypt: of no class that others know."""


class SecretField(models.TextField):
    """Texts behind a mark, without which they cannot be read, nor written."""

    def from_db_value(self, value: Optional[str], expression: object, connection: object) -> Optional[str]:
        if value is not None and not value.startswith("sealed:"):
            raise Unreadable("wrong key")
        return value and value[7:]

    def get_prep_value(self, value: Optional[str]) -> Optional[str]:
        if value == "refused":
            raise Unreadable("no key")
        return value and f"sealed:{value}"


class ColourField(models.CharField):
    """A text in the database, an enumeration in Python."""

    def from_db_value(self, value: Optional[str], expression: object, connection: object) -> Optional[Colour]:
        return value and Colour(value)

    def to_python(self, value: object) -> object:
        return value and Colour(value)

    def get_prep_value(self, value: Optional[Colour]) -> Optional[str]:
        return value and value.value


class UpperField(models.TextField):
    """Made by an expression of its own when it is written, as encryption in the database is."""

    def get_placeholder(self, value: object, compiler: object, connection: object) -> str:
        return "UPPER(%s)"

    def get_placeholder_sql(self, value: object, compiler: object, connection: object) -> tuple[str, tuple[object]]:
        return "UPPER(%s)", (value,)


class LongField(models.Field):
    """Values that are longer in the database than in Python, and that nobody measures."""

    def db_type(self, connection: object) -> str:
        return "varchar(12)"

    def get_prep_value(self, value: Optional[str]) -> Optional[str]:
        return value and f"{value}{value}"


class Odd(models.Model):
    """Fields whose conversions are their own, and kinds that `Entry` lacks."""

    text = models.CharField(max_length=20)
    label = models.CharField(max_length=20, blank=True)
    secret = SecretField(null=True)
    colour = ColourField(max_length=10, null=True)
    upper = UpperField(null=True)
    long = LongField(null=True)
    whole = models.DecimalField(max_digits=5, decimal_places=0, null=True)
    file = models.FileField(null=True)
    blob = models.BinaryField(null=True)
    judged_at = models.DateTimeField(null=True)
    judged = models.CharField(max_length=5, null=True, editable=False, choices=[("yes", "yes"), ("no", "no")])
    body = models.TextField(null=True)
    # Without a constraint: tables of apps without migrations are made first.
    kind = models.ForeignKey("contenttypes.ContentType", null=True, db_constraint=False, on_delete=models.CASCADE)
    number = models.PositiveIntegerField(null=True)
    about = GenericForeignKey("kind", "number")
