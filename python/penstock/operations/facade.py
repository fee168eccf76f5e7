"""The names of all operations, for the facades that block: each is one line, what it means is in its own file."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from penstock.operations import (
    breakpoints,
    cancel,
    create,
    draw,
    find,
    fork,
    history,
    interrupts,
    overview,
    pause,
    read,
    remove,
    replicas,
    resume,
    rewinds,
    run_task,
    shards,
    signal,
    threads,
    wait,
    waits,
)
from penstock.operations.context import VERDICT_TIMEOUT_S, Context
from penstock.operations.operation import complete

if TYPE_CHECKING:
    from penstock.graph import Direction
    from penstock.operations.create import HostConnection
    from penstock.options import CreateOptions, Duration, ListFilters, PurgeFilters
    from penstock.outcome import (
        FlowSummary,
        Json,
        OpenInterrupt,
        Outcome,
        Page,
        ReplicaInfo,
        ResourceInfo,
        ShardInfo,
        StepInfo,
        WaitingStep,
    )


class Operations(ABC):
    """What an engine and a client can do with flows. Blocking, and safe to use from any thread."""

    @property
    @abstractmethod
    def _ready(self) -> Context:
        """What the operations work with.

        Raises:
            EngineUnavailable: It was not started.
        """

    def create(
        self,
        workflow: str,
        state: Mapping[str, Json] | None = None,
        *,
        connection: HostConnection | None = None,
        **options: Unpack[CreateOptions],
    ) -> str:
        """Create a flow, which runs from then on; its key, once the flow is safe in the database.

        Args:
            workflow: A graph's name.
            state: The input.
            connection: A SQLAlchemy connection to the same database: the flow is then part of the transaction that it
                is in, and starts after its commit.
            **options: See `FlowOptions`.

        Raises:
            NotFound: No such workflow.
            Invalid: The state, an option or the connection is bad; nothing was stored.
            Conflict: The idempotency key names a flow with another input, or an unfinished flow has the business key.
        """
        return complete(create.create(self._ready, workflow, state, connection, options))

    def create_many(
        self,
        workflow: str,
        states: Sequence[Mapping[str, Json] | None],
        *,
        connection: HostConnection | None = None,
        **options: Unpack[CreateOptions],
    ) -> builtins.list[str]:
        """Create a flow for each state, 100 000 at most, all or none; their keys in order."""
        return complete(create.create_many(self._ready, workflow, states, connection, options))

    def run(
        self,
        workflow: str,
        state: Mapping[str, Json] | None = None,
        *,
        timeout: Duration | None = None,
        **options: Unpack[CreateOptions],
    ) -> Outcome:
        """Create a flow and wait for it. A workflow that fails is an outcome, not an exception.

        Raises:
            WaitTimeout: It has not stopped in time; it goes on, and `flow_key` names it.
        """
        return complete(wait.run(self._ready, workflow, state, timeout, options))

    def run_task(
        self,
        task: str | Callable[..., Any],
        state: Mapping[str, Json] | None = None,
        *,
        timeout: Duration | None = None,
        **options: Unpack[CreateOptions],
    ) -> Outcome:
        """Run one task as a flow with that one node, and wait for it."""
        return complete(run_task.run_task(self._ready, task, state, timeout, options))

    def wait(self, key: str, *, timeout: Duration | None = None, until: str | None = None) -> Outcome:
        """Wait until a flow has stopped: completed, failed, cancelled or interrupted.

        With `until`, also until it has come to that node of its graph: a step of the node was made, if not started.

        Raises:
            NotFound: No such flow.
            Invalid: The flow's graph has no such node.
            WaitTimeout: It has not stopped in time.
        """
        return complete(wait.wait(self._ready, key, timeout, until))

    def poll(self, key: str, *, timeout: Duration = 0) -> Outcome:
        """Wait for up to `timeout`, then tell how the flow stands, with its current state."""
        return complete(wait.poll(self._ready, key, timeout))

    def snapshot(self, key: str) -> Outcome:
        """Tell how a flow stands now, with its current state."""
        return read.snapshot(self._ready, key)

    def history(self, key: str) -> tuple[StepInfo, ...]:
        """Give every step of a flow with its events, children nested, in order of creation."""
        return history.history(self._ready, key)

    def step(self, step_key: str) -> StepInfo:
        """Give one step in full, with the state that it saw and what it changed."""
        return history.step(self._ready, step_key)

    def history_mermaid(self, key: str, direction: Direction = "TB") -> str:
        """Draw the history of a flow, with its children, as a Mermaid flowchart.

        Raises:
            Invalid: There is no such direction.
        """
        return draw.history_mermaid(self._ready, key, direction)

    def fingerprint(self, key: str) -> str:
        """Give a text that is another one whenever anything about the flow or its tree has changed."""
        return overview.fingerprint(self._ready, key)

    def progress(self, key: str) -> Mapping[str, int]:
        """Count the steps of a flow and of everything below it by status; 0 for a status that none has."""
        return overview.progress(self._ready, key)

    def list(self, **filters: Unpack[ListFilters]) -> Page[FlowSummary]:
        """List flows, newest first; see `ListFilters`."""
        return find.find(self._ready, filters)

    def delete(self, key: str, *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """Remove a flow that has ended, with its history and its children; an interrupted one is cancelled first.

        Raises:
            NotFound: No such flow; also when it was deleted before.
            Invalid: It is a child.
            Conflict: It runs or is paused.
        """
        complete(remove.delete(self._ready, key, timeout))

    def purge(self, **filters: Unpack[PurgeFilters]) -> int:
        """Remove finished flows, oldest first, with their children; how many. Call until it is 0.

        Raises:
            Invalid: No filter is given, or a bad one.
        """
        return complete(remove.purge(self._ready, filters))

    def shards(self) -> tuple[ShardInfo, ...]:
        """Give the databases, with what each holds and how fast it answers."""
        return shards.shards(self._ready)

    def replicas(self) -> tuple[ReplicaInfo, ...]:
        """Give the engines that share the database, oldest registration first."""
        return replicas.replicas(self._ready)

    def why(self, key: str) -> tuple[WaitingStep, ...]:
        """Say of each step of a flow that does not run why not, by number; nothing of a flow that has finished.

        Where another engine owns the flow, or none does, it is what the database knows.

        Raises:
            NotFound: No such flow.
        """
        return waits.why(self._ready, key)

    def waiting(self, *, resource: str | None = None, limit: int = 100) -> tuple[WaitingStep, ...]:
        """Give steps of this engine that are ready and wait, then flows that nobody owns, best band first.

        Args:
            resource: Only steps that lean on it.
            limit: At most so many, up to 1 000.
        """
        return waits.waiting(self._ready, resource, limit)

    def resources(self) -> tuple[ResourceInfo, ...]:
        """Show what tasks lean on, by name: how busy it is, its valve and its breaker."""
        return waits.resources(self._ready)

    def resume(
        self,
        key: str,
        answer: Json = None,
        *,
        interrupt_id: str | None = None,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """Answer the oldest open interrupt of a flow and of everything below it, or the one named.

        Raises:
            Conflict: None is open, or somebody else has answered it.
        """
        complete(resume.resume(self._ready, key, answer, interrupt_id, timeout))

    def signal(
        self, key: str, name: str, payload: Json = None, *, timeout: Duration = VERDICT_TIMEOUT_S
    ) -> None:
        """Send a signal: the call that has waited longest for its name has it, or the next one that comes.

        Raises:
            Conflict: The flow has finished.
        """
        complete(signal.signal(self._ready, key, name, payload, timeout))

    def interrupts(
        self,
        *,
        workflow: str | None = None,
        node: str | None = None,
        key: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[OpenInterrupt]:
        """List the open questions of all flows, newest first.

        Args:
            workflow: Those of flows of this workflow.
            node: Those asked at this node.
            key: Those that their tasks call so, by `interrupt(…, key=)`; a flow's key: those of the flow and of its
                children.
            limit: At most so many, up to 1 000.
            cursor: That of the page before.
        """
        return interrupts.interrupts(self._ready, workflow, node, key, limit, cursor)

    def pause(self, key: str, reason: str = "", *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """Let no step of a flow or of its children start any more; those that run finish.

        Raises:
            Conflict: It is paused already, or has finished.
        """
        complete(pause.pause(self._ready, key, reason, timeout))

    def unpause(self, key: str, *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """Let a paused flow go on, or one that was created with `hold=True`.

        Raises:
            Conflict: It is not paused.
        """
        complete(pause.unpause(self._ready, key, timeout))

    def break_before(
        self, key: str, node: str, on: bool = True, *, timeout: Duration = VERDICT_TIMEOUT_S
    ) -> None:
        """Hold the steps of a node before they start, in the flow and in everything below it.

        With `on=False` no more of them are held; what is held already stays so until `resume_break`.

        Raises:
            Invalid: No known graph has such a node.
            Conflict: The flow has finished.
        """
        complete(breakpoints.break_before(self._ready, key, node, on, timeout))

    def resume_break(
        self,
        key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """Let the oldest step go that a breakpoint holds.

        The overrides replace fields of what the step sees, reduced ones too; None deletes.

        Raises:
            Conflict: No step is held.
            Invalid: An override does not fit its field's reducer.
        """
        complete(breakpoints.resume_break(self._ready, key, overrides, timeout))

    def cancel(self, key: str, reason: str = "", *, timeout: Duration = VERDICT_TIMEOUT_S) -> None:
        """Cancel a flow and its children: no step starts any more, and late results are dropped.

        Raises:
            Conflict: It has finished already.
        """
        complete(cancel.cancel(self._ready, key, reason, timeout))

    def restart(
        self,
        key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """Run a stopped flow again from its beginning, in place; what happened before stays in its history.

        Args:
            key: A flow that is completed, failed, cancelled or interrupted.
            overrides: Fields of its input to replace; null deletes.
            timeout: How long to wait for the verdict.

        Raises:
            Conflict: It runs, or is paused.
            Invalid: It is a child, or an override does not fit its field's reducer.
        """
        complete(rewinds.restart(self._ready, key, overrides, timeout))

    def restart_from(
        self,
        step_key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """Run a step again and everything that follows from it, in place; what ran beside it stays.

        Args:
            step_key: A step of a flow or of a child that was not cancelled.
            overrides: Fields of the state that the step sees, to replace; null deletes.
            timeout: How long to wait for the verdict.

        Raises:
            NotFound: No such step.
            Conflict: The flow was cancelled, or a failure elsewhere keeps the step from running.
        """
        complete(rewinds.restart_from(self._ready, step_key, overrides, timeout))

    def retry_step(
        self,
        step_key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> None:
        """Run one failed step again, its attempts from 0; what its failure brought about is withdrawn.

        Raises:
            NotFound: No such step.
            Conflict: It did not fail, or its failure went to `on_error`.
        """
        complete(rewinds.retry_step(self._ready, step_key, overrides, timeout))

    def recover(
        self,
        key: str,
        overrides: Mapping[str, Json] | None = None,
        *,
        timeout: Duration = VERDICT_TIMEOUT_S,
    ) -> int:
        """Run every failed step of a failed flow again, those of its children too; how many they are.

        Raises:
            Conflict: The flow has not failed.
        """
        return complete(rewinds.recover(self._ready, key, overrides, timeout))

    def fork(self, step_key: str, overrides: Mapping[str, Json] | None = None) -> str:
        """Create a flow that goes on from a step of a finished one; its key.

        Args:
            step_key: Any step of the flow or of a child.
            overrides: Fields of the state that the step sees, to replace; null deletes.

        Raises:
            NotFound: No such step.
            Conflict: The flow, or one below or above it, has not finished.
        """
        return complete(fork.fork(self._ready, step_key, overrides))

    def continue_(self, thread: str, more: Mapping[str, Json] | None = None) -> str:
        """Create the next turn of a thread, from the final state of its latest one; its key.

        Args:
            thread: The key of any flow of the thread.
            more: What is added to that state, through the reducers.

        Raises:
            Conflict: The latest turn has not completed, or somebody else continued the thread first.
        """
        return complete(threads.continue_(self._ready, thread, more))
