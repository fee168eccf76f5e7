"""How flows are named in logs and telemetry: a key is a capability, and a log is read by many."""

import hashlib
import re

_KEYS = re.compile(
    r"\b[0-9]+-[a-z2-7]{26}\b|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b"
)


def correlation_id(shard: int, flow_id: bytes) -> str:
    """The short name of a flow: shard, instant of creation, and four digits that tell those of one instant apart.

    The digits are of a hash, so that nothing of what makes the key secret is in it.
    """
    return f"{shard}-{flow_id[:6].hex()}-{hashlib.sha256(flow_id).hexdigest()[:4]}"


def without_keys(text: object) -> str:
    """A text that may be logged: keys and ids of flows, as an error of the database may quote them, are left out."""
    return _KEYS.sub("…", str(text))
