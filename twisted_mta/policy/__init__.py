"""Opinions on a transaction."""
