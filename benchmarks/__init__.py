"""Measurements beside real peers: python -m benchmarks NAME."""
