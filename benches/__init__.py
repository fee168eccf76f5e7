"""Measurements; see benches/README.md."""
