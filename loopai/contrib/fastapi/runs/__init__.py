"""Runs that outlive the request and the process: stored in a folder, and run by any process of the application.

app.include_router(runs_router("spam", RunFolder("var/runs"), input=Mail, mapping=["text=body"], owner=current_user_id))
"""

from .folder import RunFolder
from .records import RunPage, RunStatus
from .router import runs_router
from .starting import start_run, start_run_sync
from .stored import FolderFull

__all__ = [
    "FolderFull",
    "RunFolder",
    "RunPage",
    "RunStatus",
    "runs_router",
    "start_run",
    "start_run_sync",
]
