"""Removing and measuring directory trees."""

from __future__ import annotations

import os
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a directory and what is in it, never following a link. Missing is fine."""
    try:
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
        else:
            Path(entry.path).unlink(missing_ok=True)
    path.rmdir()


def tree_bytes(path: Path) -> int:
    """Bytes on the disk of everything below ``path``, on its own file system only, following no link."""
    try:
        device = path.lstat().st_dev
    except OSError:
        return 0
    total, waiting = 0, [path]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue  # it went away, or is not ours to read
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if found.st_dev == device:
                total += found.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    return total
