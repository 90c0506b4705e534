"""Drivers of the protocols that the agent speaks by itself."""
