"""Taking responsibility for a message, and moving it on."""
