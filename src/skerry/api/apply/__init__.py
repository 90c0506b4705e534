"""Server-side apply: who owns which fields, and what an applied configuration makes of an object (pure)."""
