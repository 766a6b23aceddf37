"""IMAP as octets (RFC 3501)."""
