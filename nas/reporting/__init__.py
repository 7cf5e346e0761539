"""Displays: console tables, the HTML report, plots."""
