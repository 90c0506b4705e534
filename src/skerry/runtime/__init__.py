"""How pods run."""
