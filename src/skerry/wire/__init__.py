"""Bytes to meaning and back, for every protocol we speak. No clock, sockets, randomness or logging here."""
