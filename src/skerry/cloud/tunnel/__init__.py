"""Byte streams to edge nodes."""
