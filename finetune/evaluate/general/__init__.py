"""A general set: text of Python's standard library, and instructions with program-checked answers. See NOTICE.md."""
