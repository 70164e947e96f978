"""Syntax units by language: one extractor per language, found in the registry."""
