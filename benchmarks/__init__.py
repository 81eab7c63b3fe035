"""What loopai costs, compared with a named baseline from the same run. `python -m benchmarks` runs everything."""
