"""Benchmarks: each prints the figure that it produces beside its reference, in one run."""
