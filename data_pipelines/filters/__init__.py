"""What is left out, each with a reason: by path, by size, by content, by licence."""
