"""What runs in the jail: pytest plugins that are laid over the tree."""
