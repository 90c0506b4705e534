"""How we talk to a cluster."""
