"""What a run says of itself: statistics, progress, the report."""
