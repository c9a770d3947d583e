"""The command line, ``facehall``."""
