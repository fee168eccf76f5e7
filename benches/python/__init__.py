"""Benches that drive the engine from Python."""
