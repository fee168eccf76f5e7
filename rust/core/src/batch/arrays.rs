//! A batch as `PostgreSQL` arrays in binary format: one buffer a parameter, one array a column.
//!
//! Everything a batch does to a flow's `live` row is folded into one row of the group `touched`, because `PostgreSQL`
//! applies only one of several updates of a row in a statement, and does not see rows that the statement inserts.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Batch, CreateRow, Item, Op};
use crate::ids::FlowId;

mod column;
mod touched;

use column::{bools, floats, ids, ints, longs, shorts, texts, Column};
use touched::{Touch, Touched};

/// Version of the journal that this engine writes.
const FORMAT: i16 = 1;

/// Groups of columns, by their bit in `Arrays::kinds`; the columns stand in this order.
pub const KINDS: [&str; 10] = [
    "creates",
    "journal",
    "touched",
    "messages",
    "stops",
    "statuses",
    "verdicts",
    "interrupts",
    "interrupt_deletes",
    "outbox",
];

/// Flag of `Arrays::kinds`: a touched row is changed.
pub const UPDATES: u32 = 1 << 16;
/// Flag of `Arrays::kinds`: a touched row is deleted.
pub const DELETES: u32 = 1 << 17;

/// The parameters of one batch.
#[derive(Debug, Default)]
pub struct Arrays {
    /// Which groups are there: bit n stands for `KINDS[n]`; with `UPDATES` and `DELETES`.
    pub kinds: u32,
    /// Their columns, one after the other.
    pub columns: Vec<Vec<u8>>,
    /// The last journal row.
    pub newest: Option<(FlowId, u64)>,
}

/// Encodes a batch.
pub fn encode(batch: &Batch) -> Arrays {
    let items = &batch.items;
    let touched = Touched::of(items);
    let created: FxHashSet<FlowId> =
        items.iter().filter(|item| matches!(item.op, Op::Create(_))).map(|item| item.flow).collect();
    let brief = brief_interrupts(items);
    let mut arrays = Arrays::default();
    arrays.add(0, creates(items, &touched));
    arrays.add(1, journal(items));
    let others = || touched.rows.iter().filter(|touch| !created.contains(&touch.flow));
    arrays.add(2, touches(others()));
    arrays.kinds |= others().fold(0, |flags, touch| flags | touch.flag());
    arrays.add(3, messages(items, &touched));
    arrays.add(4, stops(items));
    arrays.add(5, statuses(items, &created, &touched));
    arrays.add(6, verdicts(items));
    arrays.add(7, interrupts(items, &brief));
    arrays.add(8, interrupt_deletes(items, &brief));
    arrays.add(9, outbox(items));
    arrays.newest = items.iter().rev().find_map(|item| match &item.op {
        Op::Journal(row) => Some((item.flow, row.ord)),
        _ => None,
    });
    arrays
}

impl Arrays {
    fn add(&mut self, kind: u32, columns: Vec<Column>) {
        if columns.first().is_some_and(|first| !first.is_empty()) {
            self.kinds |= 1 << kind;
            self.columns.extend(columns.into_iter().map(Column::finish));
        }
    }
}

/// Questions that are opened and closed by this batch: a DELETE would not see what the same statement inserts.
fn brief_interrupts(items: &[Item]) -> FxHashSet<FlowId> {
    let mut closed = FxHashSet::default();
    for item in items {
        if let Op::CloseInterrupt { id } = &item.op {
            closed.insert(*id);
        }
    }
    if !closed.is_empty() {
        let opened: FxHashSet<FlowId> = items
            .iter()
            .filter_map(|item| match &item.op {
                Op::OpenInterrupt(row) => Some(row.id),
                _ => None,
            })
            .collect();
        closed.retain(|id| opened.contains(id));
    }
    closed
}

fn creates(items: &[Item], touched: &Touched) -> Vec<Column> {
    let nothing = Touch::default();
    let rows: Vec<(&Item, &CreateRow, &Touch)> = items
        .iter()
        .filter_map(|item| match &item.op {
            Op::Create(row) => Some((item, row.as_ref(), touched.get(&item.flow).unwrap_or(&nothing))),
            _ => None,
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let told: FxHashMap<FlowId, (&str, &str)> = items
        .iter()
        .filter_map(|item| match &item.op {
            Op::Status { status, position, .. } => Some((item.flow, (*status, position.as_str()))),
            _ => None,
        })
        .collect();
    let flows = || rows.iter().map(|(_, row, _)| &row.flow);
    let status = |row: &CreateRow| told.get(&row.flow.id).map_or(row.status, |told| told.0);
    vec![
        ints(rows.iter().map(|(item, ..)| Some(item.unit as i32))),
        ids(flows().map(|flow| Some(&flow.id))),
        ids(flows().map(|flow| Some(&flow.root))),
        ids(flows().map(|flow| flow.parent.as_ref().map(|parent| &parent.0))),
        longs(flows().map(|flow| flow.parent.map(|parent| parent.1 as i64))),
        texts(flows().map(|flow| Some(flow.workflow.as_str()))),
        column::bytes(flows().map(|flow| Some(&flow.graph[..]))),
        texts(rows.iter().map(|(_, row, _)| Some(status(row)))),
        ints(flows().map(|flow| Some(flow.priority))),
        texts(flows().map(|flow| Some(flow.fairness_key.as_str()))),
        floats(flows().map(|flow| flow.fairness_weight)),
        longs(flows().map(|flow| Some(flow.time_budget_ms))),
        ids(flows().map(|flow| Some(&flow.thread))),
        ints(flows().map(|flow| Some(flow.turn as i32))),
        texts(flows().map(|flow| flow.tags.as_deref())),
        texts(flows().map(|flow| Some(flow.input.as_str()))),
        texts(flows().map(|flow| flow.baggage.as_deref())),
        texts(flows().map(|flow| flow.trace_parent.as_deref())),
        texts(flows().map(|flow| flow.notify.as_deref())),
        bools(flows().map(|flow| flow.delete_on_completion)),
        texts(
            rows.iter()
                .map(|(_, row, _)| Some(told.get(&row.flow.id).map_or(row.position.as_str(), |told| told.1))),
        ),
        longs(flows().map(|flow| Some(flow.created_at))),
        ids(flows().map(|_| None)),
        longs(flows().map(|_| None)),
        longs(rows.iter().map(|(_, row, touch)| row.owner.filter(|_| !touch.is_released))),
        longs(rows.iter().map(|(_, row, _)| Some(row.claims))),
        ints(rows.iter().map(|_| Some(0))),
        longs(rows.iter().map(
            |(_, row, touch)| {
                if touch.is_released {
                    touch.message_at
                } else {
                    row.ready_at
                }
            },
        )),
        longs(rows.iter().map(|(_, row, touch)| touch.wake_at.or(row.wake_at))),
        longs(rows.iter().map(|(_, _, touch)| Some(i64::from(touch.messages)))),
        longs(rows.iter().map(|(_, _, touch)| touch.message_at)),
        shorts(rows.iter().map(|_| FORMAT)),
    ]
}

fn journal(items: &[Item]) -> Vec<Column> {
    let rows = || {
        items.iter().filter_map(|item| match &item.op {
            Op::Journal(row) => Some((item, row)),
            _ => None,
        })
    };
    vec![
        ints(rows().map(|(item, _)| Some(item.unit as i32))),
        ids(rows().map(|(item, _)| Some(&item.flow))),
        longs(rows().map(|(_, row)| Some(row.ord as i64))),
        longs(rows().map(|(_, row)| Some(row.step as i64))),
        texts(rows().map(|(_, row)| Some(row.node.as_str()))),
        texts(rows().map(|(_, row)| Some(row.event))),
        ints(rows().map(|(_, row)| Some(row.attempt as i32))),
        longs(rows().map(|(_, row)| row.worker.map(i64::from))),
        longs(rows().map(|(_, row)| Some(row.queued_ms))),
        longs(rows().map(|(_, row)| Some(row.ran_ms))),
        longs(rows().map(|(_, row)| Some(row.at))),
        texts(rows().map(|(_, row)| Some(row.body.as_str()))),
    ]
}

fn touches<'a>(rows: impl Iterator<Item = &'a Touch>) -> Vec<Column> {
    let rows: Vec<&Touch> = rows.collect();
    vec![
        ints(rows.iter().map(|touch| Some(touch.unit as i32))),
        ids(rows.iter().map(|touch| Some(&touch.flow))),
        bools(rows.iter().map(|touch| touch.is_owned)),
        longs(rows.iter().map(|touch| Some(touch.claims))),
        longs(rows.iter().map(|touch| touch.seen)),
        ints(rows.iter().map(|touch| Some(touch.messages))),
        longs(rows.iter().map(|touch| touch.message_at)),
        bools(rows.iter().map(|touch| touch.is_released)),
        longs(rows.iter().map(|_| None)),
        longs(rows.iter().map(|touch| touch.wake_at)),
        bools(rows.iter().map(|touch| touch.is_calmed)),
        bools(rows.iter().map(|touch| touch.is_deleted)),
        bools(rows.iter().map(|touch| touch.is_answered)),
    ]
}

/// The messages, numbered within their flow; one to a flow that this batch ends has no reader.
fn messages(items: &[Item], touched: &Touched) -> Vec<Column> {
    let mut numbers: FxHashMap<FlowId, i32> = FxHashMap::default();
    let mut rows = Vec::new();
    for item in items {
        if let Op::Message { kind, body, at } = &item.op {
            if !touched.is_deleted(&item.flow) {
                let number = numbers.entry(item.flow).or_default();
                *number += 1;
                rows.push((item, *number, *kind, body.as_str(), *at));
            }
        }
    }
    vec![
        ints(rows.iter().map(|row| Some(row.0.unit as i32))),
        ids(rows.iter().map(|row| Some(&row.0.flow))),
        ints(rows.iter().map(|row| Some(row.1))),
        texts(rows.iter().map(|row| Some(row.2))),
        texts(rows.iter().map(|row| Some(row.3))),
        texts(rows.iter().map(|_| None)),
        longs(rows.iter().map(|row| Some(row.4))),
    ]
}

fn stops(items: &[Item]) -> Vec<Column> {
    let rows = || {
        items.iter().filter_map(|item| match &item.op {
            Op::Stop(row) => Some((item, row)),
            _ => None,
        })
    };
    vec![
        ints(rows().map(|(item, _)| Some(item.unit as i32))),
        ids(rows().map(|(item, _)| Some(&item.flow))),
        texts(rows().map(|(_, row)| Some(row.status))),
        texts(rows().map(|(_, row)| Some(row.output.as_str()))),
        texts(rows().map(|(_, row)| row.error.as_deref())),
        texts(rows().map(|(_, row)| row.cancel_reason.as_deref())),
        texts(rows().map(|_| Some("[]"))),
        longs(rows().map(|(_, row)| Some(row.at))),
    ]
}

/// The last status of each flow; one that is created or ends here has it in that row.
fn statuses(items: &[Item], created: &FxHashSet<FlowId>, touched: &Touched) -> Vec<Column> {
    let mut last: FxHashMap<FlowId, usize> = FxHashMap::default();
    for (at, item) in items.iter().enumerate() {
        let is_elsewhere = || created.contains(&item.flow) || touched.is_deleted(&item.flow);
        if matches!(item.op, Op::Status { .. }) && !is_elsewhere() {
            last.insert(item.flow, at);
        }
    }
    let rows = || {
        items.iter().enumerate().filter_map(|(at, item)| match &item.op {
            Op::Status { status, position, at: when } if last.get(&item.flow) == Some(&at) => {
                Some((item, *status, position.as_str(), *when))
            }
            _ => None,
        })
    };
    vec![
        ints(rows().map(|row| Some(row.0.unit as i32))),
        ids(rows().map(|row| Some(&row.0.flow))),
        texts(rows().map(|row| Some(row.1))),
        texts(rows().map(|row| Some(row.2))),
        longs(rows().map(|row| Some(row.3))),
    ]
}

fn verdicts(items: &[Item]) -> Vec<Column> {
    let rows = || {
        items.iter().filter_map(|item| match &item.op {
            Op::Verdict { seq, verdict, at } => Some((item, *seq, verdict.as_str(), *at)),
            _ => None,
        })
    };
    vec![
        ints(rows().map(|row| Some(row.0.unit as i32))),
        ids(rows().map(|row| Some(&row.0.flow))),
        longs(rows().map(|row| Some(row.1))),
        longs(rows().map(|row| Some(row.3))),
        texts(rows().map(|row| Some(row.2))),
    ]
}

fn interrupts(items: &[Item], brief: &FxHashSet<FlowId>) -> Vec<Column> {
    let rows = || {
        items.iter().filter_map(|item| match &item.op {
            Op::OpenInterrupt(row) if !brief.contains(&row.id) => Some((item, row)),
            _ => None,
        })
    };
    vec![
        ints(rows().map(|(item, _)| Some(item.unit as i32))),
        ids(rows().map(|(_, row)| Some(&row.id))),
        ids(rows().map(|(item, _)| Some(&item.flow))),
        ids(rows().map(|(_, row)| Some(&row.root))),
        longs(rows().map(|(_, row)| Some(row.step as i64))),
        texts(rows().map(|(_, row)| Some(row.node.as_str()))),
        texts(rows().map(|(_, row)| Some(row.kind))),
        texts(rows().map(|(_, row)| row.key.as_deref())),
        texts(rows().map(|(_, row)| row.payload.as_deref())),
        longs(rows().map(|(_, row)| Some(row.created_at))),
        longs(rows().map(|(_, row)| row.expires_at)),
    ]
}

fn interrupt_deletes(items: &[Item], brief: &FxHashSet<FlowId>) -> Vec<Column> {
    let rows = || {
        items.iter().filter_map(|item| match &item.op {
            Op::CloseInterrupt { id } if !brief.contains(id) => Some((item, id)),
            _ => None,
        })
    };
    vec![ints(rows().map(|row| Some(row.0.unit as i32))), ids(rows().map(|row| Some(row.1)))]
}

fn outbox(items: &[Item]) -> Vec<Column> {
    let rows = || {
        items.iter().filter_map(|item| match &item.op {
            Op::Outbox { topic, ord, body } => Some((item, *topic, *ord, body.as_str())),
            _ => None,
        })
    };
    vec![
        ints(rows().map(|row| Some(row.0.unit as i32))),
        texts(rows().map(|row| Some(row.1))),
        ids(rows().map(|row| Some(&row.0.flow))),
        longs(rows().map(|row| Some(row.2 as i64))),
        texts(rows().map(|row| Some(row.3))),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{Building, Group};
    use super::*;

    fn encoded(ops: Vec<(u8, Op)>) -> Arrays {
        let mut building = Building::default();
        for (flow, op) in ops {
            let mut group = Group::default();
            group.push([flow; 16], 3, op);
            building.push(group);
        }
        encode(&building.close(1, |_| 5))
    }

    fn message(body: &str, at: i64) -> Op {
        Op::Message { kind: "signal", body: body.into(), at }
    }

    fn kinds(arrays: &Arrays) -> Vec<&'static str> {
        (0..10).filter(|bit| arrays.kinds & (1 << bit) != 0).map(|bit| KINDS[bit]).collect()
    }

    #[test]
    fn an_empty_batch_has_no_parameters() {
        let arrays = encode(&Building::default().close(1, |_| 0));
        assert_eq!((arrays.kinds, arrays.columns.len()), (0, 0));
    }

    #[test]
    fn all_that_happens_to_a_row_is_one_row() {
        let release = Op::Release { wake_at: Some(9) };
        let arrays = encoded(vec![(1, message("a", 8)), (1, message("b", 7)), (1, release), (2, Op::Calm)]);
        assert_eq!(kinds(&arrays), ["touched", "messages"]);
        let (messages, at, seen) = (&arrays.columns[5], &arrays.columns[6], &arrays.columns[4]);
        assert_eq!(messages[20..], [0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0]);
        assert_eq!(at[20..32], [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(seen[32..], [0xff; 4]);
    }

    #[test]
    fn a_question_that_is_closed_at_once_was_never_asked() {
        let row = super::super::InterruptRow {
            id: [7; 16],
            kind: "interrupt",
            root: [1; 16],
            step: 1,
            node: "ask".into(),
            key: None,
            payload: None,
            created_at: 1,
            expires_at: None,
        };
        let ops = vec![(1, Op::OpenInterrupt(Box::new(row))), (1, Op::CloseInterrupt { id: [7; 16] })];
        assert_eq!(encoded(ops).kinds, 0);
    }

    #[test]
    fn a_message_to_a_flow_that_ends_here_has_no_reader() {
        let stop = super::super::StopRow {
            status: "completed",
            output: "{}".into(),
            error: None,
            cancel_reason: None,
            at: 1,
        };
        let arrays = encoded(vec![(1, Op::Stop(Box::new(stop))), (1, message("late", 2))]);
        assert_eq!(kinds(&arrays), ["touched", "stops"]);
    }
}
