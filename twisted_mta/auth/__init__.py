"""Who exists, and who you are."""
