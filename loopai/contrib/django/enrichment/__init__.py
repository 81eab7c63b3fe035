"""Rows that run through a task when they are saved: declarations, the outbox, and what processes its entries."""
