"""Doors to HTTP and WebSocket libraries."""
