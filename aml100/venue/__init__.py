"""Hyperliquid's protocol: wire structs, codec, session, signing, REST and streams."""
