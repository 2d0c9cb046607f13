"""`python -m aml100`."""
