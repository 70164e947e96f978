"""Facts per model family: one file each, found by model type through the registry."""
