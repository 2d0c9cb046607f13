"""Builds the object graph: which venue, which policy, which stores."""
