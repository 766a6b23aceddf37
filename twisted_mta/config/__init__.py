"""The configuration: data, validated whole."""
