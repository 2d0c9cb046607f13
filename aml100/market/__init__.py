"""From prints to observations: bars, features, regimes. Pure, numpy and numba."""
