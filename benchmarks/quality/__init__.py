"""Benchmarks of how good restored faces are."""
