"""Benchmarks against named peers: the frame, one module per family, and the peers' scripts.

frame.py says what a trial, a figure, a goal and a peer are; running.py measures them; environments.py makes the peers'
Python environments; peers/ holds scripts that run in those, never imported from here. A family is a module with
`TRIALS`, listed in families.py.
"""
