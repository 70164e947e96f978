"""Review comments and the commits that answer them, as a stage of the build."""
