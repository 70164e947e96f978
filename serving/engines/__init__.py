"""What runs the model: a protocol, and the engine in this process."""
