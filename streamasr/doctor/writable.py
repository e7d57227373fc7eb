"""Whether a file could be written, found out without writing it."""

import os
from pathlib import Path


def why_not_writable(path: Path) -> str | None:
    """Why ``path`` could not be made or appended to; None where it could."""
    try:
        return _why_not_writable(path)
    except OSError as error:  # in a folder that is closed to this user, for instance
        return f"{error.strerror}: {error.filename}"


def _why_not_writable(path: Path) -> str | None:
    if path.exists():
        return None if os.access(path, os.W_OK) else f"this user may not write {path}"
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"this user may not write in {folder}"
