"""Sessions with edge nodes."""
