//! A branch on its way through the blocks: its state, what it contributed, and how it ended.

use serde_json::Value;

use super::fold::fold;

/// Why a branch does not go on.
pub(super) enum End {
    /// The trunk is over before its last node.
    Over,
    Failed(String),
    /// A step of it has not ended: something outside the branch must say why.
    Cut,
}

pub(super) type Gone = Result<(), End>;

#[derive(Clone)]
pub(super) struct Token {
    pub flow: String,
    pub path: String,
    pub state: Value,
    pub log: Vec<Value>,
    /// The event that brought it here, and the earliest start of what comes next.
    pub ord: u64,
    pub not_before: i64,
    /// Its newest event, an unfinished step's too.
    pub last: u64,
    /// The failures that ended it, or branches of it.
    pub failed: Vec<String>,
}

impl Token {
    pub fn new(label: &str, state: &Value) -> Self {
        let [flow, path] = [(); 2].map(|()| label.to_owned());
        let (state, log, failed) = (state.clone(), Vec::new(), Vec::new());
        Self { flow, path, state, log, ord: 0, not_before: 0, last: 0, failed }
    }

    pub fn is_trunk(&self) -> bool {
        self.flow == self.path
    }

    pub fn fold(&mut self, changes: Value) {
        self.state = fold(&self.state, &changes);
        self.log.push(changes);
    }
}
