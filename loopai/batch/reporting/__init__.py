"""Reporting on a run: statistics, progress, the report."""
