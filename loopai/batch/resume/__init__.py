"""What a run must remember to be resumable: the journal, the output, the keys."""
