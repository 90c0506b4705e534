"""Skerry: cloud-native edge computing in Python.

Only the version lives here; import the package that you need.
"""

__version__ = "0.1.0"
