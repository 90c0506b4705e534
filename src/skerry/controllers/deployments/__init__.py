"""Deployments: ``plan`` decides, ``loop`` reads and writes."""
