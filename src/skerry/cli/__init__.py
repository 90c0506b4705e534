"""Argument parsing and exit codes."""
