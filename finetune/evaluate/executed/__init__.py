"""Code that tests grade: a repository's own functions and commits, answered by a model and run in the jail."""
