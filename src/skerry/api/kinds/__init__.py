"""Rules per kind that a table cannot say."""
