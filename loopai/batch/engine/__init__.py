"""The course of a run: which rows are sent together, what is retried, when to wait. Files are in `formats`."""
