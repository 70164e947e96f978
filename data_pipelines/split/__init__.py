"""Train and held-out sides, with no near-duplicate across."""
