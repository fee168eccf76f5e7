//! The rows and row operations of a batch, and what follows from their commit.

use crate::flow::event::{Control, Event};
use crate::ids::FlowId;

/// A new flow: its `flows` row and its `live` row.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateRow {
    /// What the rows hold.
    pub flow: NewFlow,
    /// The owner's replica id; `None` leaves it for whoever has room.
    pub owner: Option<i64>,
    /// 1 when it is owned from the start, else 0.
    pub claims: i64,
    /// `running` or `paused`.
    pub status: &'static str,
    /// The node at which it begins, in a JSON list.
    pub position: String,
    /// From when on it waits for an owner, if it does.
    pub ready_at: Option<i64>,
    /// When it becomes ready by itself.
    pub wake_at: Option<i64>,
}

/// What is asked for when a flow is created.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFlow {
    /// Its id.
    pub id: FlowId,
    /// The top of its tree; its own id when it has no parent.
    pub root: FlowId,
    /// The flow and the step that wait for it.
    pub parent: Option<(FlowId, u64)>,
    /// The name it was created by.
    pub workflow: String,
    /// Its frozen graph.
    pub graph: [u8; 32],
    /// Lower runs first.
    pub priority: i32,
    /// Who shares with whom inside a priority.
    pub fairness_key: String,
    /// How much of the share.
    pub fairness_weight: f64,
    /// Longest attempt.
    pub time_budget_ms: i64,
    /// The thread it belongs to.
    pub thread: FlowId,
    /// Its place in the thread.
    pub turn: i64,
    /// JSON object of strings.
    pub tags: Option<String>,
    /// JSON object.
    pub input: String,
    /// JSON object that every task can read.
    pub baggage: Option<String>,
    /// W3C trace context of the creator.
    pub trace_parent: Option<String>,
    /// Where to say that it stopped.
    pub notify: Option<String>,
    /// Its rows go soon after it finished.
    pub delete_on_completion: bool,
    /// When it was created.
    pub created_at: i64,
    /// What was done to it before anything ran: the first events of its journal.
    pub first: Vec<Control>,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalRow {
    /// Order number within the flow.
    pub ord: u64,
    /// The step it is about.
    pub step: u64,
    /// Its node's name.
    pub node: String,
    /// The event's name.
    pub event: &'static str,
    /// The attempt it ends.
    pub attempt: u32,
    /// The worker that ran it.
    pub worker: Option<u32>,
    /// How long the step was ready before it was handed out.
    pub queued_ms: i64,
    /// How long the attempt ran.
    pub ran_ms: i64,
    /// When it was settled.
    pub at: i64,
    /// JSON text.
    pub body: String,
}

impl JournalRow {
    /// The row of an event that is about the flow itself.
    pub fn of_flow(event: &Event, flow_key: &str) -> Self {
        Self {
            ord: event.ord,
            step: 0,
            node: String::new(),
            event: event.body.name(),
            attempt: 0,
            worker: None,
            queued_ms: 0,
            ran_ms: 0,
            at: event.at,
            body: event.body.to_json(flow_key),
        }
    }
}

/// The end of a flow: its `flows` row is completed, its `live` row goes.
#[derive(Clone, Debug, PartialEq)]
pub struct StopRow {
    /// `completed`, `failed` or `cancelled`.
    pub status: &'static str,
    /// JSON object.
    pub output: String,
    /// JSON of the error.
    pub error: Option<String>,
    /// The caller's words.
    pub cancel_reason: Option<String>,
    /// When.
    pub at: i64,
}

/// An open question, or a step that a breakpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct InterruptRow {
    /// Its id.
    pub id: FlowId,
    /// `interrupt` or `breakpoint`.
    pub kind: &'static str,
    /// The top of the tree.
    pub root: FlowId,
    /// The step that asks.
    pub step: u64,
    /// That step's node.
    pub node: String,
    /// The task's name for it.
    pub key: Option<String>,
    /// JSON.
    pub payload: Option<String>,
    /// When it was asked.
    pub created_at: i64,
    /// When it lapses.
    pub expires_at: Option<i64>,
}

/// One row or row operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Two new rows.
    Create(Box<CreateRow>),
    /// A journal row.
    Journal(JournalRow),
    /// The end; guarded by owner, claims and mail.
    Stop(Box<StopRow>),
    /// A finished flow that was revived stays as it is: its `live` row goes again; guarded by owner, claims and mail.
    Lapse,
    /// Nobody's flow again; guarded by owner, claims and mail.
    Release {
        /// Its next due instant.
        wake_at: Option<i64>,
    },
    /// A new status or position of a flow that lives on.
    Status {
        /// `running`, `interrupted` or `paused`.
        status: &'static str,
        /// JSON list of node names.
        position: String,
        /// When.
        at: i64,
    },
    /// Its replica's death is made up for: `crashes = 0`.
    Calm,
    /// A message to the flow; dropped when it has ended.
    Message {
        /// What kind.
        kind: &'static str,
        /// JSON.
        body: String,
        /// When.
        at: i64,
    },
    /// The answer to a message.
    Verdict {
        /// The message's number.
        seq: i64,
        /// JSON.
        verdict: String,
        /// When.
        at: i64,
    },
    /// A question was asked.
    OpenInterrupt(Box<InterruptRow>),
    /// It was answered, lapsed or was dropped.
    CloseInterrupt {
        /// Its id.
        id: FlowId,
    },
    /// Something to tell whoever subscribed, delivered at least once.
    Outbox {
        /// Who subscribed.
        topic: &'static str,
        /// The flow's event that it is about.
        ord: u64,
        /// JSON object.
        body: String,
    },
}

impl Op {
    /// Whether it changes a row of a flow that is there already.
    pub(super) fn is_row_operation(&self) -> bool {
        matches!(
            self,
            Self::Stop(_)
                | Self::Lapse
                | Self::Release { .. }
                | Self::Status { .. }
                | Self::Calm
                | Self::Message { .. }
        )
    }

    /// About how much it adds to a batch.
    pub(super) fn bytes(&self) -> usize {
        96 + match self {
            Self::Create(row) => {
                row.flow.input.len() + row.flow.baggage.as_ref().map_or(0, String::len) + 300
            }
            Self::Journal(row) => row.body.len(),
            Self::Stop(row) => row.output.len() + row.error.as_ref().map_or(0, String::len),
            Self::Message { body, .. } | Self::Outbox { body, .. } => body.len(),
            Self::OpenInterrupt(row) => row.payload.as_ref().map_or(0, String::len),
            _ => 0,
        }
    }
}

/// A row operation with the flow it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The unit it belongs to: an index until the batch is closed, then the unit's number.
    pub unit: u32,
    /// The flow.
    pub flow: FlowId,
    /// The owner's claim number, for guards.
    pub claims: i64,
    /// Mail that the owner had read, for guards; set when the batch is closed.
    pub seen: i64,
    /// What to do.
    pub op: Op,
}

/// What the engine does once the unit is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The step may run, from its `not_before`.
    Offer {
        /// The step.
        step: u64,
    },
    /// The step may run, unless it has since.
    OfferAgain {
        /// The step.
        step: u64,
    },
    /// The event is safe.
    Committed {
        /// Its order number.
        ord: u64,
    },
    /// The step of a flow whose replica had died may be sent.
    Send {
        /// The dispatch.
        dispatch: u64,
    },
    /// Look whether the flow only waits.
    Settle,
    /// The flow rests with a status that callers wait for.
    Rest,
    /// The flow is over.
    Stopped,
    /// The flow is nobody's.
    Released,
    /// The flow's rows exist.
    Created,
    /// The flow's `crashes` are 0.
    Calmed,
    /// The graphs of the step's children have to be asked for.
    Ask {
        /// The step.
        step: u64,
    },
    /// The outbox holds something.
    Notify,
}
