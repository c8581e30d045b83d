"""Training: rendered words, losses, and the run that makes the embedded model."""
