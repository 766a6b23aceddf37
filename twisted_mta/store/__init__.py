"""Mailbox backends behind IMailStore."""
