"""Devices down to nodes, readings up to the cluster."""
