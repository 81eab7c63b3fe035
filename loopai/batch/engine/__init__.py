"""What happens in a run: which rows travel together, what is retried, when to wait. Files are in `formats`."""
