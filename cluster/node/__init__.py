"""What nodes are like, and what they shall be like."""
