"""The decision core: pure, deterministic, Decimal money."""
