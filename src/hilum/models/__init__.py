"""What is kept after training."""
