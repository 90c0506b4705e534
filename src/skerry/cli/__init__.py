"""Argument parsing and exit codes."""

import skerry.base.lean  # noqa: F401 - before anything imports shutil
