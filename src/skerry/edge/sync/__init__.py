"""Between link and store."""
