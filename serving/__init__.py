"""The OpenAI-compatible endpoint: a base model, its adapters loaded and unloaded while it answers."""
