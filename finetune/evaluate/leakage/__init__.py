"""What can be drawn out of an adapter: planted canaries, passages it was trained on, secrets that were taken out."""
