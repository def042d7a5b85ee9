"""What brings images and weights to the nodes."""
