"""Durable workflow orchestration embedded in your Python process.

Task authors need the light names below, which load no database driver and no telemetry. `Engine`, `AsyncEngine` and
`Client` are loaded when they are first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from penstock import errors
from penstock.app import App
from penstock.errors import (
    Conflict,
    EngineUnavailable,
    InterruptTimeout,
    Invalid,
    NotFound,
    PenstockError,
    Permanent,
    RateLimited,
    Retryable,
    SubgraphFailed,
    Unavailable,
    WaitTimeout,
)
from penstock.flow import Flow, current_flow
from penstock.graph import END, First, Graph, Retry, Tolerate
from penstock.options import Limit
from penstock.outcome import (
    ErrorInfo,
    FlowSummary,
    OpenInterrupt,
    Outcome,
    Page,
    ProcessInfo,
    ReplicaInfo,
    ResourceInfo,
    ShardInfo,
    StepEvent,
    StepInfo,
    WaitingStep,
)

if TYPE_CHECKING:
    from penstock.aio import AsyncEngine
    from penstock.client import Client
    from penstock.engine import Engine

__version__ = "0.1.0"
__all__ = [
    "END",
    "App",
    "AsyncEngine",
    "Client",
    "Conflict",
    "Engine",
    "EngineUnavailable",
    "ErrorInfo",
    "First",
    "Flow",
    "FlowSummary",
    "Graph",
    "InterruptTimeout",
    "Invalid",
    "Limit",
    "NotFound",
    "OpenInterrupt",
    "Outcome",
    "Page",
    "PenstockError",
    "Permanent",
    "ProcessInfo",
    "RateLimited",
    "ReplicaInfo",
    "ResourceInfo",
    "Retry",
    "Retryable",
    "ShardInfo",
    "StepEvent",
    "StepInfo",
    "SubgraphFailed",
    "Tolerate",
    "Unavailable",
    "WaitTimeout",
    "WaitingStep",
    "current_flow",
    "errors",
]

# Names that only a host process needs, with the module that each one loads.
_HOST_NAMES = {"AsyncEngine": "penstock.aio", "Client": "penstock.client", "Engine": "penstock.engine"}


def __getattr__(name: str) -> object:
    if name not in _HOST_NAMES:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(import_module(_HOST_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOST_NAMES})
