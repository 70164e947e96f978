"""One archive from which a machine without a network is given finetune: see docs/air-gap.md."""
