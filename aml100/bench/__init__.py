"""Benchmarks, one module per family; peers run in processes of their own."""
