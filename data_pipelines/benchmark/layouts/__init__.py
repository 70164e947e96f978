"""Folders of executed tasks in the layouts of others, so that their harnesses can run them."""
