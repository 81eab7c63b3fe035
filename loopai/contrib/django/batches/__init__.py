"""Batches over querysets: what `loopai_batch` and the Celery engine run. Rows of files are `loopai.batch`'s alone."""
