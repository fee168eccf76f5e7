"""Runnable examples, each with real input."""
