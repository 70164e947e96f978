"""Fine-tune a code model on private repositories, on one's own GPU, and prove that it got better."""

__version__ = "0.1.0"
