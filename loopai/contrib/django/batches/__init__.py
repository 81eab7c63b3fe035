"""Batches over querysets, for `loopai_batch` and the Celery engine. `loopai.batch` runs files."""
