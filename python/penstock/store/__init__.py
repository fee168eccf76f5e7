"""SQL stands here and nowhere else."""

from penstock.store.failures import KeyTaken, LostCommits, Outage, RefusedRow
from penstock.store.store import Store, open_store

__all__ = ["KeyTaken", "LostCommits", "Outage", "RefusedRow", "Store", "open_store"]
