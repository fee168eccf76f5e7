"""SQL stands here and nowhere else."""

from penstock.store.failures import Outage, RefusedRow
from penstock.store.store import Store, open_store

__all__ = ["Outage", "RefusedRow", "Store", "open_store"]
