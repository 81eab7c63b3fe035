"""Detect the file system of a folder, if the operating system reports it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

MOUNTS = Path("/proc/self/mounts")

NETWORK = frozenset({
    "nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "glusterfs",
    "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "davfs", "fuse.sshfs", "fuse.s3fs",
    "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs2", "fuse.rclone", "fuse.gcsfuse", "fuse.goofys",
    "fuse.juicefs", "fuse.blobfuse", "fuse.blobfuse2", "fuse.mount-s3", "fuse.curlftpfs",
})  # fmt: skip
"""Types by Linux's names. Their locks are valid on one host only, or are not released when a host dies."""


def network_file_system(folder: Path, mounts: Optional[str] = None) -> Optional[str]:
    """Return the type of the network file system that the folder is on; `None` if it is local or unknown."""
    if mounts is None:
        try:
            mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    place = os.path.realpath(folder)
    longest, found = -1, None
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        # Blanks in names are written as octal numbers.
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)
        # Of two mounts at the same place, the later one counts.
        if (place + "/").startswith(point.rstrip("/") + "/") and len(point) >= longest:
            longest, found = len(point), kind
    return found if found in NETWORK else None
