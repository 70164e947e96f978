"""What calls a repository's own tests in the jail and hears how each ended: one file per way to test."""
