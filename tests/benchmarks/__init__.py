"""Tests of the benchmarks: what they compute, and that the page agrees."""
