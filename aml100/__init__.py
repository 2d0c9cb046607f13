"""AML-100: an autonomous trading system for Hyperliquid perpetuals. Importing it loads nothing."""

__version__ = "0.1.0"
