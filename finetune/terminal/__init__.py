"""What every command shares on the terminal: options, the one output sink, progress. See docs/decisions/002."""
