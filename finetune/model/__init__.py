"""The base model at a pinned digest in 4 bits, and the adapters that lie on it."""
