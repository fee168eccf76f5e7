"""Penstock: durable workflows inside your Python process."""
