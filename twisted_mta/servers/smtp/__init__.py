"""SMTP sessions: what commands mean (RFC 5321, RFC 6409)."""
