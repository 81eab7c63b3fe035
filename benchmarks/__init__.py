"""What loopai costs, beside a named baseline measured in the same run. `python -m benchmarks` runs them all."""
