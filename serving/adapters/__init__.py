"""Which adapters may be loaded, which are served, and whether each is live."""
