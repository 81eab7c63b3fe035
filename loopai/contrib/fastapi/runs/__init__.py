"""Runs that outlive the request and the process: kept in a folder, carried out by whichever process is there.

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
