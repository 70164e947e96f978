"""What leaves a run, and how one knows that it is what it says."""
