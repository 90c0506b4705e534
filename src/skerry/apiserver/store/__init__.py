"""Objects with revisions on SQLite."""
