//! Frames between an engine and its workers, over a stream socket.
//!
//! `u32 length of what follows | u8 kind | payload`, little endian; a string is `u32 length | UTF-8`.
//! Steps and results travel many to a frame. Both ends are of one build, so there is no version.

mod reader;
mod writer;

pub use reader::FrameReader;
pub use writer::FrameWriter;

/// The longest frame either side writes or accepts.
pub const MAX_FRAME_BYTES: usize = 256 << 20;

/// Engine to worker: steps to run.
pub const STEPS: u8 = 1;
/// Engine to worker: the reducers of a graph, before its first step.
pub const GRAPH: u8 = 2;
/// Engine to worker: a running or queued step is no longer wanted.
pub const CANCEL: u8 = 3;
/// Engine to worker: finish what was sent, then exit.
pub const STOP: u8 = 4;
/// Engine to worker: fields of a step that was sent a part of its state.
pub const STATE: u8 = 5;
/// Worker to engine: finished attempts.
pub const RESULTS: u8 = 17;
/// Worker to engine: ready, with a JSON object about the worker.
pub const HELLO: u8 = 18;
/// Worker to engine: send fields of a step's state.
pub const FETCH: u8 = 19;

/// One attempt of a step, as the engine sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOut<'a> {
    /// Never used twice in a process; the result carries it back.
    pub dispatch: u64,
    /// The number a `GRAPH` frame gave the step's graph in this worker.
    pub graph_no: u32,
    /// 0 for the first attempt.
    pub attempt: u32,
    /// The step's number in its flow.
    pub step: u64,
    /// When the flow was created.
    pub created_at_ms: i64,
    /// When the step was created; the same for all its attempts.
    pub step_created_at_ms: i64,
    /// How long the attempt may run from its start; 0 for ever.
    pub budget_ms: i64,
    /// The fields that `state` lacks and the worker may fetch: a JSON list of names, `*` when they are too many to
    /// name, empty when it lacks none.
    pub left_out: &'a str,
    /// The flow's public key.
    pub flow_key: &'a str,
    /// The node.
    pub node: &'a str,
    /// The task bound to the node.
    pub task: &'a str,
    /// The flow's baggage, a JSON object, or empty.
    pub baggage: &'a str,
    /// What the step sees, a JSON object, without its own earlier changes. Where fields were left out a null says that
    /// there is no such field.
    pub state: &'a str,
    /// Changes of earlier attempts and parks in the journal's form, or empty.
    pub changes: &'a str,
    /// Answered calls, a JSON list in call order, or empty.
    pub calls: &'a str,
}

/// One attempt of a step, as the worker reads it: the fields of [`StepOut`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is described at StepOut")]
pub struct StepIn {
    pub dispatch: u64,
    pub graph_no: u32,
    pub attempt: u32,
    pub step: u64,
    pub created_at_ms: i64,
    pub step_created_at_ms: i64,
    pub budget_ms: i64,
    pub left_out: String,
    pub flow_key: String,
    pub node: String,
    pub task: String,
    pub baggage: String,
    pub state: String,
    pub changes: String,
    pub calls: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The task returned.
    Done = 0,
    /// The task raised, or what it returned is no state.
    Error = 1,
    /// The task waits for the answer of a call.
    Parked = 2,
    /// The task asked to run again.
    Retry = 3,
}

impl Outcome {
    /// The outcome a byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Done),
            1 => Some(Self::Error),
            2 => Some(Self::Parked),
            3 => Some(Self::Retry),
            _ => None,
        }
    }
}

/// A finished attempt, as the worker sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultOut<'a> {
    /// The attempt's dispatch.
    pub dispatch: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// How long the task ran; saturates after 71 minutes.
    pub ran_us: u32,
    /// This attempt's changes in the worker's form `{"set","overwrite","del"}`, or empty.
    pub changes: &'a str,
    /// Signals, calls or the error as a JSON object, or empty.
    pub meta: &'a str,
}

/// A finished attempt, as the engine reads it: the fields of [`ResultOut`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is described at ResultOut")]
pub struct ResultIn {
    pub dispatch: u64,
    pub outcome: Outcome,
    pub ran_us: u32,
    pub changes: String,
    pub meta: String,
}

/// One frame, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `STEPS`.
    Steps(Vec<StepIn>),
    /// `GRAPH`: the graph's number and its reducers, a JSON object of field to reducer name.
    Graph(u32, String),
    /// `CANCEL`: the dispatch.
    Cancel(u64),
    /// `STOP`.
    Stop,
    /// `STATE`: the dispatch and the fields asked for, a JSON object, or empty when the dispatch is not current any
    /// more.
    State(u64, String),
    /// `RESULTS`.
    Results(Vec<ResultIn>),
    /// `HELLO`: a JSON object about the worker.
    Hello(String),
    /// `FETCH`: the dispatch and a JSON list of names, or empty for all fields.
    Fetch(u64, String),
}

#[cfg(test)]
mod tests;
