"""Links from runs, failed rows and pending rows to the rows' own pages in the admin, where their model has some."""

from __future__ import annotations

from typing import Any, Optional

from django.contrib.admin.sites import AdminSite
from django.contrib.admin.utils import quote
from django.urls import reverse

from ...exceptions import ConfigurationError
from . import keys
from .batches.queryset import model_of


def list_url(site: AdminSite, named: str) -> Optional[str]:
    """The list of a model's rows, named as a run names its queryset; `None` where the admin does not have the model."""
    model = _model(site, named)
    return None if model is None else _url(site, model, "changelist")


def row_url(site: AdminSite, named: str, key: str) -> Optional[str]:
    """The page of one row, by its key as a failed or pending row has it; `None` where the admin has none."""
    model = _model(site, named)
    if model is None:
        return None
    try:
        return _url(site, model, "change", quote(keys.from_text(model, key)))
    except (ConfigurationError, ValueError):  # a key of another kind than the model's is by now
        return None


def _model(site: AdminSite, named: str) -> Any:
    try:
        model: Any = model_of(named)
    except ConfigurationError:  # of an application that is not installed any more
        return None
    return model if site.is_registered(model) else None


def _url(site: AdminSite, model: Any, page: str, *arguments: str) -> str:
    names = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    return str(reverse(names, args=arguments, current_app=site.name))
