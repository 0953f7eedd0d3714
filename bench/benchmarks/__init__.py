"""Benchmarks: commands that print ratios measured in one run, and the machine on which they were measured."""
