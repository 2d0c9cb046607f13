"""What results mean: the compiled kernel, the back-test and what it is held against, figures, phases, the report."""
