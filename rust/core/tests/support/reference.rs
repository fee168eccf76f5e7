//! What a flow comes to, said as simply as can be: a recursion over the blocks that its graph was made of, which folds
//! state change by change. It is told which attempts ended in which order, and by that decides everything else.

use std::collections::HashMap;

use penstock_core::flow::{Event, EventBody};
use serde_json::{json, Map, Value};

use super::blocks::{Block, Branch, Cohort, OnError, Policy, Way};
use super::fold::{fits, fold, merge};
use super::record::{plain, words, Ran, Record};
use super::tasks::{act, Act, Goto, Habits, Place};

/// Why a branch does not go on.
pub enum End {
    /// The trunk is over before its last node.
    Over,
    Failed(String),
    /// A step of it has not ended: something outside the branch must say why.
    Cut,
}

type Gone = Result<(), End>;

/// The ways out of a step: the edges' own number, or one of these.
const CAUGHT: usize = 1_000;
const OVER: usize = 1_001;
const AGAIN: usize = 1_002;

pub struct Reference<'c> {
    pub seed: u64,
    pub habits: Habits,
    pub programs: &'c [Block],
    pub record: &'c Record,
    visits: HashMap<String, u64>,
    /// How many events of each flow were accounted for.
    used: HashMap<String, usize>,
}

#[derive(Clone)]
struct Token {
    flow: String,
    path: String,
    state: Value,
    log: Vec<Value>,
    /// The event that brought it here, and the earliest start of what comes next.
    ord: u64,
    not_before: i64,
    /// Its newest event, an unfinished step's too.
    last: u64,
    is_trunk: bool,
}

struct CallOf {
    asked: Value,
    label: String,
    at: i64,
    answer: Option<Value>,
}

impl<'c> Reference<'c> {
    pub fn new(seed: u64, habits: Habits, programs: &'c [Block], record: &'c Record) -> Self {
        Self { seed, habits, programs, record, visits: HashMap::new(), used: HashMap::new() }
    }

    fn wrong(&self, what: &str) -> ! {
        panic!("seed {}: {what}", self.seed)
    }

    /// Follows a flow and all its children, and compares; gives the end of the flow as its parent's call sees it.
    pub fn flow(&mut self, label: &str, program: usize, input: &Value) -> Option<Value> {
        let Some(real) = self.record.flows.get(label) else {
            self.wrong(&format!("{label:?} was never started"))
        };
        let mut token = Token {
            flow: label.to_owned(),
            path: label.to_owned(),
            state: input.clone(),
            log: Vec::new(),
            ord: 0,
            not_before: 0,
            last: 0,
            is_trunk: true,
        };
        let (status, error) = match self.block(&self.programs[program], &mut token) {
            Ok(()) | Err(End::Over) => ("completed", None),
            Err(End::Failed(code)) => ("failed", Some(code)),
            Err(End::Cut) if real.cancelled.is_some_and(|ord| ord > token.last) => ("cancelled", None),
            Err(End::Cut) => ("stopped for no reason", None),
        };
        let told = (real.status.as_str(), &real.error, &real.state);
        assert_eq!(told, (status, &error, &token.state), "seed {}: flow {label:?}", self.seed);
        let used = self.used.get(label).copied().unwrap_or(0);
        assert_eq!(
            used, real.events,
            "seed {}: flow {label:?} has events that nothing accounts for",
            self.seed
        );
        match (status, error) {
            ("completed", _) => Some(json!({"answer": token.state})),
            (_, Some(code)) => Some(json!({ "error": code })),
            _ => None,
        }
    }

    /// What must hold when the root was followed: no flow is left over.
    pub fn finish(&self) {
        let left =
            self.record.flows.iter().find(|(label, flow)| flow.events > 0 && !self.used.contains_key(*label));
        assert!(
            left.is_none(),
            "seed {}: nothing called the flow {:?}",
            self.seed,
            left.map(|(label, _)| label)
        );
    }

    fn block(&mut self, block: &Block, token: &mut Token) -> Gone {
        match block {
            Block::Sequence(blocks) => blocks.iter().try_for_each(|block| self.block(block, token)),
            Block::Task(task) => loop {
                let gotos: Vec<usize> = [(task.loops, AGAIN), (task.jumps, 0)]
                    .iter()
                    .filter_map(|(has, way)| has.then_some(*way))
                    .collect();
                let is_trunk = token.is_trunk;
                let is_caught = !matches!(task.on_error, OnError::Nowhere);
                let way =
                    self.step(
                        &task.node,
                        task.retries,
                        is_caught,
                        token,
                        &|state, visit, goto| match goto {
                            Goto::Astray => Err("unknown_goto"),
                            Goto::Yes if !gotos.is_empty() => Ok(gotos[visit as usize % gotos.len()]),
                            _ => match task.when.map_or(Some(true), |test| test.holds(state)) {
                                None => Err("condition"),
                                Some(true) => Ok(0),
                                Some(false) if is_trunk => Ok(OVER),
                                Some(false) => Err("no_match"),
                            },
                        },
                    )?;
                match (way, &task.on_error) {
                    (AGAIN, _) => {}
                    (OVER, _) => return Err(End::Over),
                    (CAUGHT, OnError::Handler(handler)) => return self.plain_step(handler, token),
                    _ => return Ok(()),
                }
            },
            Block::Loop { body, node } => loop {
                self.block(body, token)?;
                let way = self.step(node, false, false, token, &|_, _, goto| match goto {
                    Goto::Astray => Err("unknown_goto"),
                    Goto::Yes => Ok(AGAIN),
                    Goto::No => Ok(0),
                })?;
                if way != AGAIN {
                    return Ok(());
                }
            },
            Block::Switch { node, arms, default } => {
                let way = self.step(node, false, false, token, &|state, _, goto| {
                    if goto == Goto::Astray {
                        return Err("unknown_goto");
                    }
                    for (at, (test, _)) in arms.iter().enumerate() {
                        if test.holds(state).ok_or("condition")? {
                            return Ok(at);
                        }
                    }
                    default.as_ref().map(|_| arms.len()).ok_or("no_match")
                })?;
                let body = arms
                    .get(way)
                    .map_or(default.as_ref().and_then(|body| body.as_deref()), |arm| arm.1.as_ref());
                body.map_or(Ok(()), |body| self.block(body, token))
            }
            Block::Cohort(cohort) => self.cohort(cohort, token),
        }
    }

    fn plain_step(&mut self, node: &str, token: &mut Token) -> Gone {
        let straight = |_: &Value, _, goto| if goto == Goto::Astray { Err("unknown_goto") } else { Ok(0) };
        self.step(node, false, false, token, &straight).map(|_| ())
    }

    /// Follows one step through its attempts; gives the way it went.
    fn step(
        &mut self,
        node: &str,
        retries: bool,
        is_caught: bool,
        token: &mut Token,
        route: &dyn Fn(&Value, u64, Goto) -> Result<usize, &'static str>,
    ) -> Result<usize, End> {
        let count = self.visits.entry(format!("{} {node}", token.path)).or_default();
        let visit = std::mem::replace(count, *count + 1);
        let mut place = Place { path: token.path.clone(), node: node.to_owned(), visit, tries: 0 };
        let at = words(&place);
        let nothing = Ran::default();
        let ran = self.record.steps.get(&at).unwrap_or(&nothing);
        let mut events = ran.events.iter();
        let (mut recorded, mut calls, mut attempt, mut losses) = (json!({}), Vec::<CallOf>::new(), 0, 0);
        let mut not_before = token.not_before;
        loop {
            let Some(event) = self.take(&mut events, token) else { return Err(End::Cut) };
            if let EventBody::Lost { alone, .. } = event.body {
                losses += u32::from(alone);
                continue;
            }
            for seen in ran.seen.iter().filter(|seen| seen.tries == place.tries) {
                assert_eq!(seen.view, token.state, "seed {}: the view of {at}", self.seed);
                assert!(
                    seen.at >= not_before,
                    "seed {}: {at} began at {}, not {not_before}",
                    self.seed,
                    seen.at
                );
            }
            let answers: Vec<Value> = calls.iter().filter_map(|call| call.answer.clone()).collect();
            let is_poison =
                matches!(&event.body, EventBody::Failed { error, .. } if error.error.code == "poison");
            let done = if is_poison && losses >= 2 {
                Act::Failed { meta: json!({"code": "poison", "class": "permanent"}) }
            } else {
                act(self.seed, self.habits, &place, &token.state, &answers)
            };
            place.tries += 1;
            let (code, class, wait, data) = match done {
                Act::Parked { changes, calls: new } => {
                    self.expect(event, "parked", &at);
                    merge(&mut recorded, &changes);
                    let label = |asked: usize| format!("{at}.{}.{asked}>", place.tries - 1);
                    calls.extend(new.into_iter().enumerate().map(|(number, asked)| CallOf {
                        asked,
                        label: label(number),
                        at: event.at,
                        answer: None,
                    }));
                    self.answer_all(&mut calls, &mut events, token)?;
                    not_before = 0;
                    continue;
                }
                Act::Retry { changes, delay_ms } => {
                    self.expect(event, "retry", &at);
                    merge(&mut recorded, &changes);
                    (attempt, not_before) = (attempt + 1, event.at + delay_ms as i64);
                    calls.retain(|call| call.answer.as_ref().unwrap().get("answer").is_some());
                    continue;
                }
                Act::Done { changes, goto, delay_ms } => {
                    let mut all = recorded.clone();
                    merge(&mut all, &changes);
                    let after = if fits(&all) { Ok(fold(&token.state, &all)) } else { Err("reducer") };
                    match after.and_then(|after| route(&after, visit, goto).map(|way| (after, way))) {
                        Ok((after, way)) => {
                            self.expect(event, "done", &at);
                            token.state = after;
                            token.log.push(all);
                            token.ord = event.ord;
                            token.not_before = if delay_ms > 0 { event.at + delay_ms as i64 } else { 0 };
                            return Ok(way);
                        }
                        Err(code) => (code.to_owned(), "error".to_owned(), 0, Value::Null),
                    }
                }
                Act::Failed { meta } => {
                    let text = |name: &str| meta[name].as_str().unwrap().to_owned();
                    let wait = meta["retry_after_ms"].as_i64().unwrap_or(1_000);
                    (text("code"), text("class"), wait, meta["data"].clone())
                }
            };
            let is_bounce = class == "rate_limited" || class == "unavailable";
            if is_bounce || (retries && attempt < 2 && class != "permanent") {
                self.expect(event, "retry", &at);
                not_before = event.at + if is_bounce { wait } else { 5 << attempt };
                attempt += u32::from(!is_bounce);
                calls.retain(|call| call.answer.as_ref().unwrap().get("answer").is_some());
                continue;
            }
            self.expect(event, "failed", &at);
            // What earlier attempts recorded stays, unless it is what cannot be folded.
            let mut kept = if fits(&recorded) { recorded } else { json!({}) };
            if is_caught {
                let error = json!({"code": code, "node": node, "data": data});
                merge(&mut kept, &json!({"overwrite": {"on_error": error}}));
            }
            token.state = fold(&token.state, &kept);
            token.log.push(kept);
            (token.ord, token.not_before) = (event.ord, 0);
            return if is_caught { Ok(CAUGHT) } else { Err(End::Failed(code)) };
        }
    }

    fn take<'e>(&mut self, events: &mut std::slice::Iter<'e, Event>, token: &mut Token) -> Option<&'e Event> {
        let event = events.next()?;
        *self.used.entry(token.flow.clone()).or_default() += 1;
        token.last = token.last.max(event.ord);
        Some(event)
    }

    fn expect(&self, event: &Event, kind: &str, at: &str) {
        assert_eq!(event.body.name(), kind, "seed {}: {at}: {event:?}", self.seed);
    }

    /// Takes the answers of all open calls, and follows the children.
    fn answer_all(
        &mut self,
        calls: &mut [CallOf],
        events: &mut std::slice::Iter<'_, Event>,
        token: &mut Token,
    ) -> Gone {
        let mut expected = Vec::new();
        for call in calls.iter() {
            let program = call.asked["target"].as_str().and_then(|name| name.strip_prefix('g')?.parse().ok());
            expected.push(match (call.asked["kind"].as_str().unwrap(), program) {
                _ if call.answer.is_some() => None,
                ("subgraph", Some(program)) => self.flow(&call.label, program, &call.asked["input"]),
                ("subgraph", None) => Some(json!({"error": "not_found"})),
                ("sleep", _) => Some(json!({"answer": null})),
                _ => None,
            });
        }
        while calls.iter().any(|call| call.answer.is_none()) {
            let Some(event) = self.take(events, token) else { return Err(End::Cut) };
            let EventBody::Resolved { call, answer } = &event.body else {
                self.wrong(&format!("{event:?} while calls are open"))
            };
            let found = &mut calls[*call as usize];
            let came = match answer {
                Ok(value) => json!({"answer": plain(serde_json::from_str(value.raw()).unwrap())}),
                Err(error) => json!({"error": error.code}),
            };
            let wait = found.asked["ms"].as_i64().or(found.asked["timeout_ms"].as_i64());
            let is_late = found.asked["kind"] == "sleep" || answer.is_err();
            let is_due = wait.is_none_or(|wait| event.at >= found.at + wait);
            let is_right = match &expected[*call as usize] {
                Some(expected) => came == *expected,
                None if found.asked["kind"] == "subgraph" => false,
                None => answer.is_ok() || (wait.is_some() && came["error"] == "interrupt_timeout"),
            };
            if !is_right || (is_late && !is_due) || found.answer.is_some() {
                self.wrong(&format!("{} was answered {came}, at {} by {event:?}", found.asked, found.at));
            }
            found.answer = Some(came);
        }
        Ok(())
    }

    fn cohort(&mut self, cohort: &Cohort, token: &mut Token) -> Gone {
        let visit = self.visits.get(&format!("{} {}", token.path, cohort.node)).copied().unwrap_or(0);
        let way = self.step(&cohort.node, false, cohort.on_error, token, &|state, _, goto| {
            let broken =
                |branch: &Branch| matches!(&branch.way, Way::When(test) if test.holds(state).is_none());
            match goto {
                Goto::Astray => Err("unknown_goto"),
                _ if cohort.branches.iter().any(broken) => Err("condition"),
                _ => Ok(0),
            }
        })?;
        let opened = token.ord;
        let mut branches: Vec<(Token, Gone)> = Vec::new();
        for branch in cohort.branches.iter().filter(|_| way != CAUGHT) {
            for binds in starts(branch, &token.state) {
                let path = format!("{}/{}#{visit}.{}", token.path, cohort.node, branches.len());
                let mut inner = Token { path, log: Vec::new(), is_trunk: false, ..token.clone() };
                inner.state.as_object_mut().unwrap().extend(binds);
                let gone = branch.body.as_ref().map_or(Ok(()), |body| self.block(body, &mut inner));
                branches.push((inner, gone));
            }
        }
        if branches.is_empty() {
            return cohort.join.as_ref().map_or(Ok(()), |join| self.plain_step(join, token));
        }
        let mut ended: Vec<usize> =
            (0..branches.len()).filter(|at| !matches!(branches[*at].1, Err(End::Cut))).collect();
        ended.sort_by_key(|at| branches[*at].0.ord);
        let (mut arrived, mut failed, mut counted) = (0, Vec::new(), 0);
        token.ord = opened;
        let verdict = loop {
            let next = ended.get(counted).map(|at| (*at, &branches[*at]));
            let is_straight = next.is_some_and(|(_, (inner, _))| inner.ord == opened);
            let verdict = decide(cohort.policy, branches.len() as u64, arrived, failed.len() as u64);
            match next {
                _ if verdict.is_some() && !is_straight => break verdict,
                None => break None,
                Some((at, (inner, gone))) => {
                    token.ord = inner.ord;
                    arrived += u64::from(gone.is_ok());
                    failed.extend(gone.is_err().then_some(at));
                    counted += 1;
                }
            }
        };
        token.last = branches.iter().map(|(inner, _)| inner.last).max().unwrap_or(0).max(token.last);
        if verdict.is_some() && token.last > token.ord {
            self.wrong(&format!(
                "event {} comes after {} was over at {}",
                token.last, cohort.node, token.ord
            ));
        }
        let is_joined = verdict == Some(true);
        let delays = ended[..counted]
            .iter()
            .filter(|at| branches[**at].1.is_ok())
            .map(|at| branches[*at].0.not_before);
        token.not_before = delays.max().unwrap_or(0);
        let code = failed.first().and_then(|at| match &branches[*at].1 {
            Err(End::Failed(code)) => Some(code.clone()),
            _ => None,
        });
        for (at, (inner, gone)) in branches.into_iter().enumerate() {
            if !is_joined || (gone.is_ok() && ended[..counted].contains(&at)) {
                for changes in inner.log {
                    let changes = without(changes, &cohort.branches);
                    token.state = fold(&token.state, &changes);
                    token.log.push(changes);
                }
            }
        }
        match verdict {
            None => Err(End::Cut),
            Some(false) => Err(End::Failed(code.unwrap_or_else(|| "no_match".to_owned()))),
            Some(true) => cohort.join.as_ref().map_or(Ok(()), |join| self.plain_step(join, token)),
        }
    }
}

/// Whether a cohort joins or fails; `None` while it is open.
fn decide(policy: Policy, size: u64, arrived: u64, failed: u64) -> Option<bool> {
    let is_over = arrived + failed == size;
    match policy {
        Policy::First(n) if arrived >= n => Some(true),
        Policy::First(n) => (size - failed < n).then_some(false),
        Policy::FailFast if failed > 0 => Some(false),
        Policy::Tolerate(n) => is_over.then_some(failed <= n),
        Policy::Drain | Policy::FailFast => is_over.then_some(failed == 0),
    }
}

/// The private fields of each branch that an edge starts.
fn starts(branch: &Branch, state: &Value) -> Vec<Map<String, Value>> {
    match &branch.way {
        Way::Plain => vec![Map::new()],
        Way::When(test) => test.holds(state).unwrap_or(false).then(Map::new).into_iter().collect(),
        Way::Each(over, bind) => {
            let elements = state[*over].as_array().cloned().unwrap_or_default();
            let count = elements.len();
            let binds = |(index, element): (usize, Value)| {
                let own = [(format!("{bind}_index"), json!(index)), (format!("{bind}_count"), json!(count))];
                let element = (!element.is_null()).then(|| (bind.clone(), element));
                Map::from_iter(own.into_iter().chain(element))
            };
            elements.into_iter().enumerate().map(binds).collect()
        }
    }
}

fn without(mut changes: Value, branches: &[Branch]) -> Value {
    for branch in branches {
        let Way::Each(_, bind) = &branch.way else { continue };
        for name in [bind.clone(), format!("{bind}_index"), format!("{bind}_count")] {
            for member in ["set", "overwrite"] {
                if let Some(fields) = changes[member].as_object_mut() {
                    fields.remove(&name);
                }
            }
        }
    }
    changes
}
