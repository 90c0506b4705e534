"""Shared by every level."""

pytest_plugins = ["skerry.testing.plugin"]
