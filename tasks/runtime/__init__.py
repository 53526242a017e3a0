"""What a running process knows of itself: progress, memory, environment, addresses."""
