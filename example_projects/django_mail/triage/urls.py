"""The site's URLs."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

admin.site.site_header = "Mail triage"

urlpatterns = [
    path("", include("mail.urls")),
    path("loopai/", include("loopai.contrib.django.urls")),  # POST /loopai/webhook/
    path("favicon.ico", RedirectView.as_view(url=static("mail/icon.svg"))),
    path("admin/", admin.site.urls),
]
