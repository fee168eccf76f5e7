//! How flows come in: created here, or claimed and loaded.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::places::place_of;
use super::release::hold_ms;
use super::settle::json_list;
use super::{clock, Engine, GraphEntry, Live, Ran, Released, Serial, UNREAD};
use crate::batch::{After, CreateRow, Group, JournalRow, NewFlow, Op};
use crate::error::{Error, Result};
use crate::flow::{Event, EventBody, Flow};
use crate::ids::flow_key;
use crate::json::{Kind, Value};
use crate::state::{Reducer, Reducers, State};

/// A claimed flow as the database has it.
pub struct LoadedFlow {
    /// What it was created with.
    pub about: NewFlow,
    /// This claim's number.
    pub claims: i64,
    /// How often its replica died without a committed step since.
    pub crashes: i64,
    /// Mail ever sent to it. When there is any, its inbox must be read before it can stop or be released.
    pub mail: i64,
    /// Whether its row says that it has ended: it lives again to read its mail.
    pub is_finished: bool,
    /// Its journal from its last snapshot on; empty when the released flow in memory is still good.
    pub events: Vec<Event>,
    /// Bytes of those.
    pub journal_bytes: usize,
}

impl Engine {
    /// Takes a new flow. With room it is owned from its first commit on, else left to whoever claims it.
    ///
    /// # Errors
    /// `invalid` when its input does not fit; nothing is kept then.
    pub fn create(&mut self, new: NewFlow) -> Result<()> {
        let mut group = Group::default();
        self.create_in(new, &mut group)?;
        self.enqueue(group);
        Ok(())
    }

    /// Takes all of them or none.
    ///
    /// # Errors
    /// `invalid` for the first whose input does not fit.
    pub fn create_many(&mut self, flows: Vec<NewFlow>) -> Result<()> {
        for new in &flows {
            self.check_input(new)?;
        }
        let mut group = Group::default();
        for new in flows {
            self.create_in(new, &mut group)?;
        }
        self.enqueue(group);
        Ok(())
    }

    /// Refuses a state that no flow of this graph could start from.
    ///
    /// # Errors
    /// `invalid` naming what does not fit, `not_found` for an unknown graph.
    pub fn check_state(&mut self, graph: &[u8; 32], input: &str) -> Result<()> {
        let entry = self.graphs.get(graph).ok_or_else(|| Error::not_found("the graph was never added"))?;
        new_state(input, entry.graph.reducers(), self.options.max_event_bytes).map(|_| ())
    }

    fn check_input(&mut self, new: &NewFlow) -> Result<(Arc<GraphEntry>, State)> {
        let entry = self.graphs.get(&new.graph);
        let entry = entry
            .ok_or_else(|| Error::not_found(format!("no graph is known for workflow {:?}", new.workflow)))?;
        let state = new_state(&new.input, entry.graph.reducers(), self.options.max_event_bytes)?;
        Ok((entry, state))
    }

    pub(super) fn create_in(&mut self, new: NewFlow, group: &mut Group) -> Result<()> {
        let (entry, state) = self.check_input(&new)?;
        let id = new.id;
        let key = flow_key(self.options.shard, &id).into();
        let mut flow = Flow::new(entry.graph.clone(), key, state, new.created_at);
        let first = first_rows(&mut flow, &new)?;
        // What does not start now costs no memory.
        let wake_at = flow.next_due().filter(|at| *at > new.created_at);
        let is_waiting = flow.is_paused() || wake_at.is_some();
        let is_ours = !is_waiting && self.space() > 0 && self.missing_tasks(&new.graph).is_empty();
        let (owner, claims) = if is_ours { (Some(self.options.replica), 1) } else { (None, 0) };
        let row = CreateRow {
            owner,
            claims,
            status: flow.status().as_str(),
            position: json_list(&flow.position()),
            ready_at: (!is_waiting).then_some(new.created_at),
            wake_at,
            flow: new.clone(),
        };
        group.push(id, claims, Op::Create(Box::new(row)));
        for row in first {
            group.push(id, claims, Op::Journal(row));
        }
        group.after(id, After::Created);
        self.unstored.insert(id);
        if is_ours {
            let serial = self.insert(new, entry, flow, claims);
            if let Some(live) = self.flows.get_mut(&serial) {
                live.place = place_of(&live.flow);
            }
            group.after(id, After::Offer { step: 1 });
        }
        Ok(())
    }

    fn insert(&mut self, about: NewFlow, entry: Arc<GraphEntry>, mut flow: Flow, claims: i64) -> Serial {
        flow.limit_steps(self.options.max_steps);
        let mut serial = self.next_serial;
        while self.flows.contains_key(&serial) {
            serial = serial.wrapping_add(1);
        }
        self.next_serial = serial.wrapping_add(1);
        self.index.insert(about.id, serial);
        let (told, told_parent) = (flow.status(), flow.is_asking());
        let committed = flow.ord();
        let live = Live {
            fairness_key: about.fairness_key.as_str().into(),
            about,
            entry,
            flow,
            claims,
            crashes: 0,
            seen: 0,
            handled: 0,
            kept: VecDeque::new(),
            committed,
            running: FxHashMap::default(),
            offered: FxHashSet::default(),
            told,
            place: 0,
            is_place_due: false,
            told_parent,
            journal_bytes: 0,
            snapshot_len: 0,
            is_releasing: false,
            look_again_at: 0,
            is_stopping: false,
            is_reloading: false,
            is_calming: false,
            refusals: 0,
            blamed_mail: FxHashSet::default(),
            is_revived: false,
            history: None,
            let_go: FxHashMap::default(),
        };
        self.flows.insert(serial, live);
        serial
    }

    /// Takes a claimed flow in and offers what it has ready. A flow that is held under this claim already stays as it
    /// is, unless it was rolled back: then it goes on from what is loaded.
    ///
    /// # Errors
    /// `corrupt` when its journal does not replay, `not_found` for an unknown graph.
    pub fn load_flow(&mut self, loaded: LoadedFlow, now_ms: i64) -> Result<()> {
        let id = loaded.about.id;
        let held = self.index.get(&id).copied();
        let entry = held.and_then(|serial| self.flows.get(&serial)).map(|live| live.entry.clone());
        let entry = entry.or_else(|| self.graphs.get(&loaded.about.graph));
        let entry =
            entry.ok_or_else(|| Error::not_found("the flow's graph was not added before it was loaded"))?;
        let serial = match held.and_then(|serial| Some((serial, self.flows.get(&serial)?))) {
            Some((serial, live)) if live.claims == loaded.claims => {
                if !live.is_reloading {
                    return Ok(());
                }
                let flow = self.replay(&loaded, &entry)?;
                self.reload(serial, flow, &loaded);
                serial
            }
            held => {
                if let Some((serial, _)) = held {
                    // A newer claim proves that the release stands, whose answer has not come yet.
                    self.let_go(serial, now_ms);
                    self.abandon(&id);
                }
                self.take_in(loaded, entry, now_ms)?
            }
        };
        self.resume_work(serial, now_ms);
        Ok(())
    }

    fn replay(&self, loaded: &LoadedFlow, entry: &GraphEntry) -> Result<Flow> {
        let key = flow_key(self.options.shard, &loaded.about.id).into();
        let input = input_state(&loaded.about.input, entry.graph.reducers())?;
        Flow::replay(entry.graph.clone(), key, input, loaded.about.created_at, &loaded.events)
    }

    fn take_in(&mut self, loaded: LoadedFlow, entry: Arc<GraphEntry>, now_ms: i64) -> Result<Serial> {
        let id = loaded.about.id;
        let known = self.released.take(&id, clock(now_ms));
        let remembered = known.filter(|released| released.claims + 1 == loaded.claims);
        let Released { flow, handled, journal_bytes, snapshot_len, .. } = match remembered {
            Some(released) => released,
            None => Released {
                flow: self.replay(&loaded, &entry)?,
                claims: 0,
                handled: 0,
                journal_bytes: loaded.journal_bytes,
                snapshot_len: snapshot_len(&loaded.events),
            },
        };
        let serial = self.insert(loaded.about, entry, flow, loaded.claims);
        if let Some(live) = self.flows.get_mut(&serial) {
            live.is_revived = loaded.is_finished;
            live.crashes = loaded.crashes;
            live.seen = if loaded.mail == 0 { 0 } else { UNREAD };
            live.handled = handled;
            live.journal_bytes = journal_bytes;
            live.snapshot_len = snapshot_len;
            live.look_again_at = now_ms + hold_ms(live.flow.live_steps());
        }
        self.moved(serial, now_ms);
        Ok(serial)
    }

    /// Puts the replayed flow in the place of the rolled-back one.
    fn reload(&mut self, serial: Serial, flow: Flow, loaded: &LoadedFlow) {
        self.clear_timers(serial);
        self.void_unsent(serial);
        let Some(live) = self.flows.get_mut(&serial) else { return };
        live.committed = flow.ord();
        live.told = flow.status();
        live.told_parent = flow.is_asking();
        live.flow = flow;
        live.flow.limit_steps(self.options.max_steps);
        live.crashes = loaded.crashes;
        live.journal_bytes = loaded.journal_bytes;
        live.snapshot_len = snapshot_len(&loaded.events);
        live.is_reloading = false;
        live.is_stopping = false;
        live.is_releasing = false;
        live.is_calming = false;
        live.is_revived = loaded.is_finished;
        live.history = None;
        live.let_go.clear();
        // Messages whose verdicts were rolled back come again.
        live.seen = if loaded.mail == 0 { 0 } else { UNREAD };
        live.handled = 0;
        for kept in &mut live.kept {
            kept.ord = 0;
        }
    }

    /// Offers the ready steps of a flow that came in, arms its timers, and settles what was found started. A step of
    /// which a result is kept does not run again.
    fn resume_work(&mut self, serial: Serial, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let kept: FxHashSet<u64> = live.kept.iter().map(|kept| kept.step).collect();
        let is_idle = |step: u64| !live.running.contains_key(&step) && !kept.contains(&step);
        let mut idle: Vec<(u64, bool)> = live
            .flow
            .steps()
            .map(|step| (step.number, step.is_started))
            .filter(|(step, _)| is_idle(*step))
            .collect();
        idle.sort_unstable();
        for (step, is_started) in idle {
            if is_started {
                self.lost(serial, step, "the death of its replica", true, Ran::default(), now_ms);
            } else {
                self.offer(serial, step, now_ms);
            }
            self.arm_calls(serial, step);
            self.want_graphs(serial, step, now_ms);
        }
        let mut group = Group::default();
        self.deliver_missed(serial, &mut group, now_ms);
        self.enqueue(group);
        self.settle_kept(serial, now_ms);
        self.consider_release(serial, now_ms);
    }
}

/// Does to a new flow what is to be done before anything runs; gives the rows that record it.
fn first_rows(flow: &mut Flow, new: &NewFlow) -> Result<Vec<JournalRow>> {
    let mut rows = Vec::new();
    for control in &new.first {
        let body = EventBody::Control(control.clone());
        let event = Event { ord: flow.ord() + 1, step: 0, attempt: 0, at: new.created_at, body };
        flow.apply(&event, None)?;
        rows.push(JournalRow::of_flow(&event, flow.key()));
    }
    Ok(rows)
}

/// The state that a new flow starts from.
///
/// # Errors
/// `invalid`: the input is too long, no JSON object, or a field does not fit its reducer.
pub fn new_state(input: &str, reducers: &Reducers, max_bytes: usize) -> Result<State> {
    let bytes = input.len();
    if bytes > max_bytes {
        return Err(Error::invalid(format!("the state has {bytes} bytes and {max_bytes} are allowed; store the data elsewhere and pass its address")));
    }
    input_state(input, reducers)
}

/// Bytes of the snapshot that a loaded journal starts with.
fn snapshot_len(events: &[Event]) -> usize {
    match events.first().map(|event| &event.body) {
        Some(EventBody::Snapshot(text)) => text.len(),
        _ => 0,
    }
}

/// The state that a flow starts from: its input, with the fields of reducers checked against them.
///
/// # Errors
/// `invalid` naming the field that does not fit its reducer.
pub fn input_state(input: &str, reducers: &Reducers) -> Result<State> {
    let mut state = State::from_json(input)?;
    state.check(reducers).map_err(|error| Error::invalid(error.message))?;
    for (field, reducer) in reducers.iter() {
        let Some(value) = state.get(field).cloned() else { continue };
        let is_list = matches!(reducer, Reducer::Append | Reducer::Union);
        if is_list && value.kind() != Kind::Array {
            state.set(field.clone(), Value::from_raw_unchecked(format!("[{}]", value.raw())));
        }
    }
    Ok(state)
}
