"""The pages' URLs."""

from django.urls import path

from . import views

app_name = "mail"
urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("messages/<int:pk>/", views.message, name="message"),
    path("messages/<int:pk>/reclassify/", views.reclassify, name="reclassify"),
    path("notices/<int:pk>/read/", views.read_notice, name="read_notice"),
    path("try/", views.try_text, name="try"),
    path("api/verdict/", views.verdict, name="verdict"),
]
