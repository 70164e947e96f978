"""One HTML page per dataset, by which a person can judge it: figures, samples of what was left out, examples."""
