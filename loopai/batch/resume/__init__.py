"""What is remembered of a run, so that it can be resumed: the journal, the output, the keys."""
