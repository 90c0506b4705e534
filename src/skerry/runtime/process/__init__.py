"""Pods as supervised host processes."""
