"""Desired pods to running ones."""
