"""What the engine costs, measured: `python -m benchmarks`. Results go to benchmarks/results."""
