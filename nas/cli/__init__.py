"""The command line `nas`: one module for each group of commands."""

from nas.cli import search, results, deploy, installed  # noqa: I001 - the order of `nas --help`
from nas.cli.app import app, main

__all__ = ["app", "deploy", "installed", "main", "results", "search"]
