//! A database that keeps the protocol of live rows, and refuses to hold what no engine may write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use penstock_core::batch::{Batch, CreateRow, JournalRow, NewFlow, Op};
use penstock_core::engine::{input_state, LoadedFlow, Mail};
use penstock_core::flow::event::Control;
use penstock_core::flow::{CallKind, Event, EventBody, Flow, Status, Step};
use penstock_core::graph::Graph;
use penstock_core::ids::{flow_key, hex, FlowId};

use super::rng::Rng;

/// Rows that hold this word are refused for their data.
pub const BAD: &str = "UNSTORABLE";

pub struct LiveRow {
    pub owner: Option<i64>,
    pub claims: i64,
    pub crashes: i64,
    pub ready_at: Option<i64>,
    pub wake_at: Option<i64>,
    pub mail: i64,
}

pub struct FlowRow {
    pub about: NewFlow,
    pub status: &'static str,
    pub output: Option<String>,
    pub journal: Vec<Event>,
    /// The journal, folded: what a replay would give.
    pub folded: Flow,
}

pub struct Letter {
    pub seq: i64,
    pub kind: String,
    pub body: String,
    pub verdict: Option<String>,
}

/// Why a batch was not written.
#[derive(Debug, PartialEq)]
pub enum No {
    Fenced,
    Refused,
}

#[derive(Default)]
pub struct Database {
    pub seed: u64,
    pub flows: BTreeMap<FlowId, FlowRow>,
    pub live: BTreeMap<FlowId, LiveRow>,
    pub inbox: BTreeMap<FlowId, Vec<Letter>>,
    pub interrupts: BTreeMap<FlowId, FlowId>,
    /// Which of `interrupts` hold a step, open or not.
    pub breakpoints: BTreeSet<FlowId>,
    pub graphs: BTreeMap<[u8; 32], Arc<Graph>>,
    pub dead: BTreeSet<i64>,
    /// The children whose answers events are, by flow and order number.
    pub answers: HashMap<(FlowId, u64), FlowId>,
}

impl Database {
    /// Writes what can be written; gives the units that were put off.
    pub fn commit(&mut self, batch: &Batch, replica: i64, rng: &mut Rng) -> Result<Vec<u32>, No> {
        if self.dead.contains(&replica) {
            return Err(No::Fenced);
        }
        let put_off = self.put_off(batch, replica, rng);
        let items: Vec<_> = batch.items.iter().filter(|item| !put_off.contains(&item.unit)).collect();
        if items.iter().any(|item| is_bad(&item.op)) {
            return Err(No::Refused);
        }
        // The order in which the stores run their statements.
        for pass in 0..9 {
            for item in &items {
                if pass_of(&item.op) == pass {
                    self.write(&item.flow, item.claims, &item.op, replica);
                }
            }
        }
        self.check_waits();
        Ok(put_off.into_iter().collect())
    }

    /// What holds of waiting flows between any two commits.
    fn check_waits(&self) {
        let seed = self.seed;
        for id in self.live.keys() {
            let row = &self.flows[id];
            let flow = &row.folded;
            // Of a flow that ended with a rewind unread, the end is not told before that is read.
            let is_telling = row.status == flow.status().as_str() || self.is_rewound(id);
            assert!(is_telling, "seed {seed}: another status than the journal has");
            for name in ["a", "b"] {
                let both = flow.waits_for_signal(name).and(flow.kept_signal(name));
                assert!(both.is_none(), "seed {seed}: a signal is kept while somebody waits for it");
            }
            for (_, _, call) in flow.open_calls(CallKind::Subgraph) {
                let child = call.id.filter(|child| self.live.contains_key(child));
                let Some(child) = child else { continue };
                let said = call.below.is_some_and(|(_, is_asking)| is_asking);
                let below = &self.flows[&child].folded;
                let is_ending = self.is_rewound(&child) && below.status().is_finished();
                let is_told = said == below.is_asking() || self.is_being_told(id, &child) || is_ending;
                assert!(is_told, "seed {seed}: a parent is wrong about the questions of its child");
                self.check_inherited(id, &child);
            }
            self.check_rest(id);
        }
        self.check_questions();
    }

    /// Its parent's pause and breakpoints are the child's too, or it has mail that says so.
    fn check_inherited(&self, id: &FlowId, child: &FlowId) {
        let (above, below) = (self.flows[id].folded.holds(), &self.flows[child].folded);
        if below.status().is_finished() {
            return;
        }
        let is_same = (&above.paused, &above.breaks) == (&below.holds().paused, &below.holds().breaks);
        let is_told = self.has_unread(child, |letter| letter.kind == "inherit")
            || self.has_unread(id, |letter| letter.kind == "child_back");
        assert!(is_same || is_told, "seed {}: a child is not held as its parent", self.seed);
    }

    /// Nobody's flow without work is woken when something is due.
    fn check_rest(&self, id: &FlowId) {
        let (row, flow) = (&self.live[id], &self.flows[id].folded);
        if row.owner.is_some() || row.ready_at.is_some() || self.has_unread(id, |_| true) {
            return;
        }
        let seed = self.seed;
        // One whose steps wait for a resource that is shut is woken to look again.
        let is_work = |step: &Step| step.is_runnable() && step.not_before == 0;
        let has_work = !flow.is_paused() && flow.steps().any(is_work);
        assert!(!has_work || row.wake_at.is_some(), "seed {seed}: a flow with work is left lying");
        let is_woken = |due: i64| row.wake_at.is_some_and(|at| at <= due);
        assert!(flow.next_due().is_none_or(is_woken), "seed {seed}: it is not woken in time");
    }

    /// The open questions are those that the journals have.
    fn check_questions(&self) {
        let asked = self.live.keys().flat_map(|id| {
            let steps = self.flows[id].folded.steps();
            let open = steps.flat_map(|step| {
                let calls = step.calls.iter().filter(|call| call.is_open_interrupt());
                calls.filter_map(|call| call.id).chain(step.hold.id())
            });
            open.map(|question| (question, *id))
        });
        let asked: BTreeMap<FlowId, FlowId> = asked.collect();
        assert_eq!(asked, self.interrupts, "seed {}: other questions than the journals have", self.seed);
    }

    fn has_unread(&self, flow: &FlowId, is_it: impl Fn(&Letter) -> bool) -> bool {
        let mut letters = self.inbox.get(flow).into_iter().flatten();
        letters.any(|letter| letter.verdict.is_none() && is_it(letter))
    }

    fn is_being_told(&self, parent: &FlowId, child: &FlowId) -> bool {
        let child = hex(child);
        self.has_unread(parent, |letter| letter.kind == "child_state" && letter.body.contains(&child))
    }

    fn put_off(&self, batch: &Batch, replica: i64, rng: &mut Rng) -> BTreeSet<u32> {
        let mut units = BTreeSet::new();
        for item in &batch.items {
            let row = self.live.get(&item.flow);
            let is_mine = row.is_some_and(|row| row.owner == Some(replica) && row.claims == item.claims);
            let (is_row_operation, holds) = match item.op {
                Op::Stop(_) | Op::Lapse | Op::Release { .. } => {
                    (true, is_mine && row.is_some_and(|row| row.mail == item.seen))
                }
                Op::Calm => (true, is_mine),
                Op::Message { .. } => (true, true),
                _ => (false, true),
            };
            // Somebody else may hold the row just now.
            if !holds || (is_row_operation && rng.chance(5)) {
                units.insert(item.unit);
            }
        }
        units
    }

    fn write(&mut self, flow: &FlowId, claims: i64, op: &Op, replica: i64) {
        let seed = self.seed;
        match op {
            Op::Create(row) => self.insert(row),
            Op::Journal(row) => {
                let live =
                    self.live.get(flow).unwrap_or_else(|| panic!("seed {seed}: event of an ended flow"));
                let is_new = live.owner.is_none() && live.claims == 0;
                assert!(
                    is_new || live.owner == Some(replica) && live.claims == claims,
                    "seed {seed}: not its owner"
                );
                self.append(flow, row);
            }
            Op::Calm => self.live.get_mut(flow).unwrap().crashes = 0,
            Op::Stop(row) => {
                self.live.remove(flow).unwrap_or_else(|| panic!("seed {seed}: stopped twice"));
                let found = self.flows.get_mut(flow).unwrap();
                (found.status, found.output) = (row.status, Some(row.output.clone()));
                let folded = &found.folded;
                assert_eq!(folded.status().as_str(), row.status, "seed {seed}: the journal says otherwise");
                assert_eq!(folded.current_state().to_json(), row.output, "seed {seed}: another output");
                let open = self.interrupts.values().filter(|of| *of == flow).count();
                assert_eq!(open, 0, "seed {seed}: an ended flow still asks");
            }
            Op::Lapse => {
                self.live.remove(flow).unwrap_or_else(|| panic!("seed {seed}: lapsed twice"));
                let found = &self.flows[flow];
                assert!(found.output.is_some(), "seed {seed}: lapsed while it runs");
                assert_eq!(found.folded.status().as_str(), found.status, "seed {seed}: lapsed while it runs");
            }
            Op::Release { wake_at } => {
                let row = self.live.get_mut(flow).unwrap();
                (row.owner, row.ready_at, row.wake_at) = (None, None, *wake_at);
            }
            Op::Status { status, .. } => {
                let found = self.flows.get_mut(flow).unwrap();
                (found.status, found.output) = (status, None);
            }
            Op::Message { kind, body, at } => {
                self.post(flow, kind, body.clone(), *at);
            }
            Op::Verdict { seq, verdict, .. } => {
                let letter =
                    self.inbox.get_mut(flow).and_then(|box_| box_.iter_mut().find(|l| l.seq == *seq));
                let letter = letter.unwrap_or_else(|| panic!("seed {seed}: a verdict without a message"));
                assert!(letter.verdict.is_none(), "seed {seed}: two verdicts on {} {seq}", letter.kind);
                letter.verdict = Some(verdict.clone());
            }
            // Whom it tells is not simulated.
            Op::Outbox { .. } => {}
            Op::OpenInterrupt(row) => {
                assert!(self.interrupts.insert(row.id, *flow).is_none(), "seed {seed}: asked twice");
                if row.kind == "breakpoint" {
                    self.breakpoints.insert(row.id);
                }
            }
            Op::CloseInterrupt { id } => {
                assert!(self.interrupts.remove(id).is_some(), "seed {seed}: closed what was not open");
            }
        }
    }

    fn insert(&mut self, new: &CreateRow) {
        let about = &new.flow;
        let graph = self.graphs[&about.graph].clone();
        let input = input_state(&about.input, graph.reducers()).unwrap();
        let folded = Flow::new(graph, flow_key(1, &about.id).into(), input, about.created_at);
        let row =
            FlowRow { about: about.clone(), status: new.status, output: None, journal: Vec::new(), folded };
        assert!(self.flows.insert(about.id, row).is_none(), "seed {}: created twice", self.seed);
        let CreateRow { owner, claims, ready_at, wake_at, .. } = *new;
        self.live.insert(about.id, LiveRow { owner, claims, crashes: 0, ready_at, wake_at, mail: 0 });
    }

    fn append(&mut self, flow: &FlowId, row: &JournalRow) {
        let seed = self.seed;
        let found = self.flows.get_mut(flow).unwrap();
        assert_eq!(row.ord, found.journal.len() as u64 + 1, "seed {seed}: a gap or a double in the journal");
        let body = EventBody::from_json(row.event, &row.body).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let event = Event { ord: row.ord, step: row.step, attempt: row.attempt, at: row.at, body };
        let is_back = matches!(event.body, EventBody::Control(Control::Rewind(_)) | EventBody::Snapshot(_));
        assert!(
            is_back || !found.folded.status().is_finished(),
            "seed {seed}: an ended flow changed: {event:?}"
        );
        if let EventBody::Resolved { call, .. } = &event.body {
            let asked = found.folded.step(event.step).and_then(|step| step.calls.get(*call as usize));
            if let Some(child) = asked.and_then(|call| call.id) {
                self.answers.insert((*flow, event.ord), child);
            }
        }
        found.folded.apply(&event, None).unwrap_or_else(|e| panic!("seed {seed}: {e}: {event:?}"));
        found.journal.push(event);
    }

    /// Sends a message; `None` when the flow has ended.
    pub fn post(&mut self, flow: &FlowId, kind: &str, body: String, now_ms: i64) -> Option<i64> {
        let row = self.live.get_mut(flow)?;
        row.mail += 1;
        if row.owner.is_none() {
            row.ready_at = row.ready_at.or(Some(now_ms));
        }
        let seq = row.mail;
        self.inbox.entry(*flow).or_default().push(Letter { seq, kind: kind.to_owned(), body, verdict: None });
        Some(seq)
    }

    /// Sends a message to a flow that may have ended: then it lives again to read it.
    pub fn post_or_revive(&mut self, flow: &FlowId, kind: &str, body: String, now_ms: i64) {
        let status = self.flows[flow].status;
        let is_over = Status::parse(status).is_some_and(Status::is_finished);
        if is_over && !self.live.contains_key(flow) {
            let mail = self.inbox.get(flow).and_then(|letters| letters.last()).map_or(0, |last| last.seq);
            let ready_at = Some(now_ms);
            let row = LiveRow { owner: None, claims: now_ms, crashes: 0, ready_at, wake_at: None, mail };
            self.live.insert(*flow, row);
        }
        self.post(flow, kind, body, now_ms);
    }

    /// A flow's whole journal.
    pub fn history(&self, flow: &FlowId) -> Vec<Event> {
        self.flows[flow].journal.clone()
    }

    /// Whether the flow was sent back, or is being.
    pub fn is_rewound(&self, flow: &FlowId) -> bool {
        self.inbox.get(flow).is_some_and(|letters| letters.iter().any(|letter| letter.kind == "rewind"))
    }

    /// `seen` and the unanswered messages, as of now.
    pub fn mail_of(&self, flow: &FlowId) -> (i64, Vec<Mail>) {
        let seen = self.live.get(flow).map_or(0, |row| row.mail);
        let unread = self.inbox.get(flow).into_iter().flatten().filter(|letter| letter.verdict.is_none());
        let mail =
            |letter: &Letter| Mail { seq: letter.seq, kind: letter.kind.clone(), body: letter.body.clone() };
        (seen, unread.map(mail).collect())
    }

    /// Flows of this owner with messages that nobody answered.
    pub fn unread(&self, owner: Option<i64>) -> Vec<FlowId> {
        let is_it = |(id, row): &(&FlowId, &LiveRow)| row.owner == owner && self.has_unread(id, |_| true);
        self.live.iter().filter(is_it).map(|(id, _)| *id).collect()
    }

    /// Claims up to `room` ready flows, and those with mail.
    pub fn claim(&mut self, replica: i64, room: usize, now_ms: i64) -> Vec<FlowId> {
        if self.dead.contains(&replica) {
            return Vec::new();
        }
        let mut claimed = self.unread(None);
        let is_due = |row: &LiveRow| row.ready_at.is_some() || row.wake_at.is_some_and(|at| at <= now_ms);
        let due =
            self.live.iter().filter(|(id, row)| row.owner.is_none() && is_due(row) && !claimed.contains(id));
        let due: Vec<FlowId> = due.map(|(id, _)| *id).take(room).collect();
        claimed.extend(due);
        for flow in &claimed {
            let row = self.live.get_mut(flow).unwrap();
            (row.owner, row.claims) = (Some(replica), row.claims + 1);
        }
        claimed
    }

    /// Releases what the dead own.
    pub fn release_dead(&mut self, now_ms: i64) {
        for row in self.live.values_mut() {
            if row.owner.is_some_and(|owner| self.dead.contains(&owner)) {
                (row.owner, row.ready_at) = (None, Some(now_ms));
                row.crashes += 1;
            }
        }
    }

    /// What an owner loads; `None` when the flow has ended or is not its own.
    pub fn load(&self, flow: &FlowId, replica: i64) -> Option<LoadedFlow> {
        let live = self.live.get(flow).filter(|live| live.owner == Some(replica))?;
        let found = &self.flows[flow];
        let is_snapshot = |event: &Event| matches!(event.body, EventBody::Snapshot(_));
        let from = found.journal.iter().rposition(is_snapshot).unwrap_or(0);
        let events: Vec<Event> = found.journal[from..].to_vec();
        let key = found.folded.key();
        let bytes =
            events.iter().filter(|event| !is_snapshot(event)).map(|event| event.body.to_json(key).len());
        Some(LoadedFlow {
            about: found.about.clone(),
            claims: live.claims,
            crashes: live.crashes,
            mail: live.mail,
            is_finished: Status::parse(found.status).is_some_and(Status::is_finished),
            journal_bytes: bytes.sum(),
            events,
        })
    }
}

fn is_bad(op: &Op) -> bool {
    match op {
        Op::Journal(row) => row.body.contains(BAD),
        Op::Create(row) => row.flow.input.contains(BAD),
        _ => false,
    }
}

fn pass_of(op: &Op) -> usize {
    match op {
        Op::Create(_) => 0,
        Op::Journal(_) => 1,
        Op::Calm => 2,
        // The row goes after its questions; the stores do not look, this one does.
        Op::OpenInterrupt(_) => 3,
        Op::CloseInterrupt { .. } => 4,
        Op::Stop(_) | Op::Lapse | Op::Release { .. } => 5,
        Op::Status { .. } => 6,
        Op::Message { .. } => 7,
        Op::Verdict { .. } | Op::Outbox { .. } => 8,
    }
}
