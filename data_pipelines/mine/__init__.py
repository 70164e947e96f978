"""Rows from files and commits: one module per task."""
