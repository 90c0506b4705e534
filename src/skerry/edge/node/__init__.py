"""The node's own status and lease."""
