"""What survives: state.db and the Parquet history."""
