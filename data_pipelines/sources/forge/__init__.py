"""Exported merge requests and review comments of GitHub and GitLab, read from files and never over a network."""
