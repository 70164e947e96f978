"""Git repositories to a dataset: rows that teach, each with its provenance. See docs/data.md."""
