"""Composition roots: one function per process."""
