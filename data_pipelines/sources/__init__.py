"""Where text comes from: the object database of git repositories."""
