"""Links from runs, failed rows and pending rows to the rows' pages in the admin, if their model is registered."""

from __future__ import annotations

from typing import Any, Optional

from django.contrib.admin.sites import AdminSite
from django.contrib.admin.utils import quote
from django.urls import reverse

from ...exceptions import ConfigurationError
from . import keys
from .batches.queryset import model_of


def list_url(site: AdminSite, named: str) -> Optional[str]:
    """Return the list of a model's rows for the name of a run's queryset; `None` if the model is not in the admin."""
    model = _model(site, named)
    return None if model is None else _url(site, model, "changelist")


def row_url(site: AdminSite, named: str, key: str) -> Optional[str]:
    """Return the page of one row, by the key of a failed or pending row; `None` if the admin has none."""
    model = _model(site, named)
    if model is None:
        return None
    try:
        return _url(site, model, "change", quote(keys.from_text(model, key)))
    except (ConfigurationError, ValueError):  # the model's key type has changed since
        return None


def _model(site: AdminSite, named: str) -> Any:
    try:
        model: Any = model_of(named)
    except ConfigurationError:  # its application is no longer installed
        return None
    return model if site.is_registered(model) else None


def _url(site: AdminSite, model: Any, page: str, *arguments: str) -> str:
    names = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    return str(reverse(names, args=arguments, current_app=site.name))
