"""The words that choose how much is logged, and in which form."""

LEVELS = ("debug", "info", "warning", "error")
FORMS = ("auto", "text", "json")
