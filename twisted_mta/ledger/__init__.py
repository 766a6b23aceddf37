"""Durable transactions and the content they refer to."""
