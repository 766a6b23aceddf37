"""SMTP as octets (RFC 5321)."""
