"""What survives: the state, in a state.db or a schema of PostgreSQL, and the Parquet history."""
