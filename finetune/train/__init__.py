"""Training: a recipe into a run folder, a run folder into an adapter."""
