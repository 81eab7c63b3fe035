"""Messages by integer, UUID and text keys."""

import uuid

from django.db import models


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
