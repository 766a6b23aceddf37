"""The IMAP session (RFC 3501)."""
