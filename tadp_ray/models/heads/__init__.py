"""Task heads: from the four feature levels to what a task predicts."""
