"""The options of `loopai_batch --queryset`, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from django.db.models import QuerySet

INLINE = "inline"
CELERY = "celery"


@dataclass
class RunOptions:
    """The flags of `loopai_batch --queryset`, by their names; from code, `queryset` may be one itself."""

    task: str
    queryset: Union[str, QuerySet[Any]]
    save_to: Sequence[str] = ()
    output: Optional[str] = None
    output_format: Optional[str] = None
    filters: Sequence[str] = ()
    excludes: Sequence[str] = ()
    map: Sequence[str] = ()
    only_empty: bool = False
    expect: Optional[str] = None
    report: Optional[str] = None
    chunk_size: int = 100
    max_concurrency: int = 10
    max_in_flight: int = 4
    timeout_ms: Optional[int] = None
    version: Optional[int] = None
    limit: Optional[int] = None
    max_errors: Optional[str] = None
    dry_run: bool = False
    resume: bool = False
    retry_failed: bool = False
    overwrite: bool = False
    engine: str = INLINE
    progress: str = "auto"
    json: bool = False
    grace: float = 30.0
    alias: str = "default"
    database: str = "default"
    command: list[str] = field(default_factory=list)
