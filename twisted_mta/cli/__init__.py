"""The twisted-mta command."""
