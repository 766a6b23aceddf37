"""A modular mail transfer agent on Twisted."""
