"""The Textual console: a client of the engine that holds no trading state."""
