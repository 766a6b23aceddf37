"""Relay: the agent that speaks SMTP to other servers (RFC 5321)."""
