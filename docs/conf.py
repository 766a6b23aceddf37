"""Sphinx configuration."""

project = "twisted-mta"
author = "the twisted-mta authors"
extensions: list[str] = []
html_theme = "alabaster"
exclude_patterns = ["_build"]
