"""`--no-tui`: what the engine says, as plain lines or JSON lines."""
