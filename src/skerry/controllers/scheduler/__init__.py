"""Scheduler: ``plan`` chooses a node, ``loop`` binds."""
