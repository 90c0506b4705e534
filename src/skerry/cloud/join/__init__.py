"""How a node gets its identity."""
