"""Rounds over all contestants and parts, on the same servers, and what comes of them: `python -m benchmarks peers`."""
