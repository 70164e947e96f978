"""Secrets and addresses of persons replaced by placeholders of the same kind."""
