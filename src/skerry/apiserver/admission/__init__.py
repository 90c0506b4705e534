"""What is changed or refused before a write."""
