"""What results mean: metrics, statistics, objectives, the compiled kernel and the back-test."""
