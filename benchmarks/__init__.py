"""Measurements of speed and memory, each against a bound; `python -m benchmarks.pairing` and `benchmarks.step`."""
