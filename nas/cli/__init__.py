"""The command line `nas`."""

from nas.cli.app import app, main

__all__ = ["app", "main"]
