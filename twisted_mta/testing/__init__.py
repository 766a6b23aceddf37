"""What the author of a plugin runs against it."""
