"""The simulated venue: pure matching engine, market scenarios, and the server that speaks the protocol."""
