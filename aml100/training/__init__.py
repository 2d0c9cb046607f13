"""Training as a process of its own."""
