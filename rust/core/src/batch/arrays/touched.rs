//! What a batch does to each `live` row, folded into one operation a row.

use rustc_hash::FxHashMap;

use super::{DELETES, UPDATES};
use crate::batch::{Item, Op};
use crate::ids::FlowId;

/// What a batch does to one `live` row.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub struct Touch {
    /// The unit of the row.
    pub unit: u32,
    /// The flow.
    pub flow: FlowId,
    /// Whether the row is guarded by owner and claims.
    pub is_owned: bool,
    /// The owner's claim number.
    pub claims: i64,
    /// What `mail` must still be.
    pub seen: Option<i64>,
    /// How many messages come.
    pub messages: i32,
    /// When the first one came.
    pub message_at: Option<i64>,
    /// Whether it becomes nobody's.
    pub is_released: bool,
    /// Its next due instant then.
    pub wake_at: Option<i64>,
    /// Whether `crashes` goes back to 0.
    pub is_calmed: bool,
    /// Whether the flow ends.
    pub is_deleted: bool,
    /// Whether a message is answered.
    pub is_answered: bool,
}

impl Touch {
    fn own(&mut self, claims: i64) {
        self.is_owned = true;
        self.claims = claims;
    }

    fn message(&mut self, at: i64) {
        self.messages += 1;
        self.message_at = Some(self.message_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// What the statement has to do for this row.
    pub fn flag(&self) -> u32 {
        if self.is_deleted {
            DELETES
        } else if self.messages > 0 || self.is_released || self.is_calmed || self.is_answered {
            UPDATES
        } else {
            0
        }
    }

    fn note(&mut self, item: &Item) {
        match &item.op {
            Op::Stop(_) | Op::Lapse => {
                self.own(item.claims);
                self.is_deleted = true;
                self.seen = Some(item.seen);
            }
            Op::Release { wake_at } => {
                self.own(item.claims);
                self.is_released = true;
                self.wake_at = *wake_at;
                self.seen = Some(item.seen);
            }
            Op::Calm => {
                self.own(item.claims);
                self.is_calmed = true;
            }
            Op::Verdict { .. } => {
                self.own(item.claims);
                self.is_answered = true;
            }
            Op::Status { .. } => self.own(item.claims),
            Op::Message { at, .. } => self.message(*at),
            Op::Create(_)
            | Op::Journal(_)
            | Op::OpenInterrupt(_)
            | Op::CloseInterrupt { .. }
            | Op::Outbox { .. } => {}
        }
    }
}

/// The touched rows, in the order in which the batch first names them.
#[derive(Debug, Default)]
pub struct Touched {
    /// One a flow.
    pub rows: Vec<Touch>,
    at: FxHashMap<FlowId, usize>,
}

impl Touched {
    /// Folds the operations of a batch.
    pub fn of(items: &[Item]) -> Self {
        let mut touched = Self::default();
        for item in items {
            if !matches!(
                item.op,
                Op::Create(_)
                    | Op::Journal(_)
                    | Op::OpenInterrupt(_)
                    | Op::CloseInterrupt { .. }
                    | Op::Outbox { .. }
            ) {
                touched.row(item).note(item);
            }
        }
        touched
    }

    fn row(&mut self, item: &Item) -> &mut Touch {
        let at = *self.at.entry(item.flow).or_insert_with(|| {
            self.rows.push(Touch { unit: item.unit, flow: item.flow, ..Touch::default() });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// What happens to a flow's row.
    pub fn get(&self, flow: &FlowId) -> Option<&Touch> {
        self.at.get(flow).map(|at| &self.rows[*at])
    }

    /// Whether the flow ends here.
    pub fn is_deleted(&self, flow: &FlowId) -> bool {
        self.get(flow).is_some_and(|touch| touch.is_deleted)
    }
}
