"""URLs of the tests' site."""

from django.contrib import admin
from django.urls import include, path

from loopai.contrib.django.views import awebhook

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("loopai/", include("loopai.contrib.django.urls")),
    path("async-webhook/", awebhook),
    path("check/", views.check),
    path("acheck/", views.acheck),
]
