"""Devices, their twins and mappers."""
