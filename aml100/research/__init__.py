"""Walk-forward and search."""
