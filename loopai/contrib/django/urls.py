"""URLs to include: `path("loopai/", include("loopai.contrib.django.urls"))` gives `loopai:webhook`."""

from __future__ import annotations

from django.urls import path

from .views import webhook

app_name = "loopai"
urlpatterns = [path("webhook/", webhook, name="webhook")]
