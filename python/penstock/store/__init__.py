"""SQL stands here and nowhere else."""

from penstock.store.failures import LostCommits, Outage, RefusedRow
from penstock.store.store import Store, open_store

__all__ = ["LostCommits", "Outage", "RefusedRow", "Store", "open_store"]
