"""Twisted I/O that knows nothing of mail."""
