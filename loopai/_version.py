"""The version, for the build and the User-Agent header."""

__version__ = "0.2.0"
