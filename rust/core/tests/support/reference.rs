//! What a flow comes to, said as simply as can be: a recursion over the blocks that its graph was made of, which folds
//! state change by change. It is told which attempts ended in which order, and by that decides everything else.

use std::collections::{BTreeSet, HashMap};

use serde_json::{json, Value};

use super::blocks::{Block, Branch, Cohort, OnError, Policy, Task, Way};
use super::fold::{fits, fold, merge, starts, without};
use super::record::Record;
use super::tasks::{act, Act, Goto, Habits, Place};
use super::token::{End, Gone, Token};
use super::witness::{children, CallOf, Witness};

/// The ways out of a step: the edges' own number, or one of these.
const CAUGHT: usize = 1_000;
const OVER: usize = 1_001;
const AGAIN: usize = 1_002;

type Route<'a> = &'a dyn Fn(&Value, u64, Goto) -> Result<usize, &'static str>;

/// What an author gave a node beside its edges.
#[derive(Clone, Copy, Default)]
struct Has {
    retries: bool,
    caught: bool,
}

pub struct Reference<'c> {
    habits: Habits,
    programs: &'c [Block],
    pub witness: Witness<'c>,
    visits: HashMap<String, u64>,
}

impl<'c> Reference<'c> {
    pub fn new(seed: u64, habits: Habits, programs: &'c [Block], record: &'c Record) -> Self {
        Self { habits, programs, witness: Witness::new(seed, record), visits: HashMap::new() }
    }

    /// Follows a flow and all its children; gives its end as its parent's call sees it.
    pub fn flow(&mut self, label: &str, program: usize, input: &Value) -> Option<Value> {
        let mut token = Token::new(label, input);
        let (status, error) = match self.block(&self.programs[program], &mut token) {
            Ok(()) | Err(End::Over) => ("completed", None),
            Err(End::Failed(code)) => ("failed", Some(code)),
            Err(End::Cut) => ("cancelled", None),
        };
        self.witness.flow(label, status, error.as_ref(), &token.state, token.last);
        match (status, error) {
            ("completed", _) => Some(json!({"answer": token.state})),
            (_, error) => error.map(|code| json!({ "error": code })),
        }
    }

    /// How far a flow has come; gives the failures that stand.
    pub fn look(&mut self, label: &str, program: usize, input: &Value) -> BTreeSet<String> {
        let mut token = Token::new(label, input);
        let _ = self.block(&self.programs[program], &mut token);
        token.failed.into_iter().collect()
    }

    fn block(&mut self, block: &Block, token: &mut Token) -> Gone {
        match block {
            Block::Sequence(blocks) => blocks.iter().try_for_each(|block| self.block(block, token)),
            Block::Task(task) => self.task(task, token),
            Block::Loop { body, node } => loop {
                self.block(body, token)?;
                let route = |_: &Value, _, goto| Ok(if goto == Goto::Yes { AGAIN } else { 0 });
                if self.step(node, Has::default(), token, &route)? != AGAIN {
                    return Ok(());
                }
            },
            Block::Switch { node, arms, default } => {
                let way = self.step(node, Has::default(), token, &|state, _, _| {
                    for (at, (test, _)) in arms.iter().enumerate() {
                        if test.holds(state).ok_or("condition")? {
                            return Ok(at);
                        }
                    }
                    default.as_ref().map(|_| arms.len()).ok_or("no_match")
                })?;
                let default = default.as_ref().and_then(|body| body.as_deref());
                let body = arms.get(way).map_or(default, |(_, body)| body.as_ref());
                body.map_or(Ok(()), |body| self.block(body, token))
            }
            Block::Cohort(cohort) => self.cohort(cohort, token),
        }
    }

    fn task(&mut self, task: &Task, token: &mut Token) -> Gone {
        let gotos: Vec<usize> =
            [task.loops.then_some(AGAIN), task.jumps.then_some(0)].into_iter().flatten().collect();
        let is_trunk = token.is_trunk();
        let has = Has { retries: task.retries, caught: !matches!(task.on_error, OnError::Nowhere) };
        loop {
            let way = self.step(&task.node, has, token, &|state, visit, goto| {
                if goto == Goto::Yes && !gotos.is_empty() {
                    return Ok(gotos[visit as usize % gotos.len()]);
                }
                match task.when.map_or(Some(true), |test| test.holds(state)) {
                    None => Err("condition"),
                    Some(true) => Ok(0),
                    Some(false) => is_trunk.then_some(OVER).ok_or("no_match"),
                }
            })?;
            match (way, &task.on_error) {
                (AGAIN, _) => {}
                (OVER, _) => return Err(End::Over),
                (CAUGHT, OnError::Handler(handler)) => return self.plain_step(handler, token),
                _ => return Ok(()),
            }
        }
    }

    fn plain_step(&mut self, node: &str, token: &mut Token) -> Gone {
        self.step(node, Has::default(), token, &|_, _, _| Ok(0)).map(|_| ())
    }

    /// Follows one step through its attempts; gives the way it went.
    fn step(&mut self, node: &str, has: Has, token: &mut Token, route: Route<'_>) -> Result<usize, End> {
        let count = self.visits.entry(format!("{} {node}", token.path)).or_default();
        let visit = std::mem::replace(count, *count + 1);
        let mut place = Place { path: token.path.clone(), node: node.to_owned(), visit, tries: 0 };
        let mut story = self.witness.story(&token.flow, &place);
        let (mut recorded, mut calls, mut attempt) = (json!({}), Vec::<CallOf>::new(), 0);
        let mut not_before = token.not_before;
        loop {
            while let Some(overrides) = self.witness.overrides(&mut story, &mut token.last) {
                not_before = 0;
                token.fold(overrides);
            }
            let (event, is_poison) = self.witness.attempt(&mut story, &mut token.last).ok_or(End::Cut)?;
            self.witness.saw(&story, place.tries, &token.state, not_before);
            let answers: Vec<Value> = calls.iter().filter_map(|call| call.answer.clone()).collect();
            let deed = if is_poison {
                Act::Failed { meta: json!({"code": "poison", "class": "permanent"}) }
            } else {
                act(self.witness.seed, self.habits, &place, &token.state, &answers)
            };
            place.tries += 1;
            let error = match deed {
                Act::Parked { changes, calls: asked } => {
                    self.witness.expect(event, "parked", &story);
                    merge(&mut recorded, &changes);
                    for ((number, asked), id) in asked.into_iter().enumerate().zip(children(event)) {
                        let label = format!("{}.{}.{number}>", story.words, place.tries - 1);
                        let told = self.told(&asked, &label);
                        calls.push(CallOf { asked, at: event.at, told, id, answer: None });
                    }
                    self.witness.answers(&mut story, &mut calls, &mut token.last).ok_or(End::Cut)?;
                    not_before = 0;
                    continue;
                }
                Act::Retry { changes, delay_ms } => {
                    self.witness.expect(event, "retry", &story);
                    merge(&mut recorded, &changes);
                    (attempt, not_before) = (attempt + 1, event.at + delay_ms as i64);
                    calls.retain(CallOf::is_kept);
                    continue;
                }
                Act::Done { changes, goto, delay_ms } => {
                    let mut all = recorded.clone();
                    merge(&mut all, &changes);
                    let way = match goto {
                        _ if !fits(&all) => Err("reducer"),
                        Goto::Astray => Err("unknown_goto"),
                        _ => route(&fold(&token.state, &all), visit, goto),
                    };
                    if let Ok(way) = way {
                        self.witness.expect(event, "done", &story);
                        token.fold(all);
                        token.ord = event.ord;
                        token.not_before = if delay_ms > 0 { event.at + delay_ms as i64 } else { 0 };
                        return Ok(way);
                    }
                    json!({"code": way.unwrap_err(), "class": "error", "data": null})
                }
                Act::Failed { meta } => meta,
            };
            if has.retries && attempt < 2 && error["class"] != "permanent" {
                self.witness.expect(event, "retry", &story);
                not_before = event.at + (5 << attempt);
                attempt += 1;
                calls.retain(CallOf::is_kept);
                continue;
            }
            self.witness.expect(event, "failed", &story);
            // What earlier attempts recorded stays, unless it is what cannot be folded.
            let mut kept = if fits(&recorded) { recorded } else { json!({}) };
            if has.caught {
                let seen = json!({"code": error["code"], "node": node, "data": error["data"]});
                merge(&mut kept, &json!({"overwrite": {"on_error": seen}}));
            }
            token.fold(kept);
            (token.ord, token.not_before) = (event.ord, 0);
            let code = error["code"].as_str().unwrap().to_owned();
            if !has.caught {
                token.failed.push(story.words);
                return Err(End::Failed(code));
            }
            return Ok(CAUGHT);
        }
    }

    /// What a call is answered; `None` where somebody outside decides, or a child has no end of its own.
    fn told(&mut self, asked: &Value, label: &str) -> Option<Value> {
        if asked["kind"] == "sleep" {
            return Some(json!({"answer": null}));
        }
        let target = asked["target"].as_str().filter(|_| asked["kind"] == "subgraph")?;
        match target.strip_prefix('g').and_then(|number| number.parse().ok()) {
            Some(_) if self.witness.looks => None,
            Some(program) => self.flow(label, program, &asked["input"]),
            None => Some(json!({"error": "not_found"})),
        }
    }

    fn cohort(&mut self, cohort: &Cohort, token: &mut Token) -> Gone {
        let visit = self.visits.get(&format!("{} {}", token.path, cohort.node)).copied().unwrap_or(0);
        let has = Has { retries: false, caught: cohort.on_error };
        let way = self.step(&cohort.node, has, token, &|state, _, _| {
            let broken =
                |branch: &Branch| matches!(&branch.way, Way::When(test) if test.holds(state).is_none());
            if cohort.branches.iter().any(broken) {
                Err("condition")
            } else {
                Ok(0)
            }
        })?;
        let mut branches: Vec<(Token, Gone)> = Vec::new();
        for branch in cohort.branches.iter().filter(|_| way != CAUGHT) {
            for binds in starts(branch, &token.state) {
                let path = format!("{}/{}#{visit}.{}", token.path, cohort.node, branches.len());
                let mut inner = Token { path, log: Vec::new(), failed: Vec::new(), ..token.clone() };
                inner.state.as_object_mut().unwrap().extend(binds);
                let gone = branch.body.as_ref().map_or(Ok(()), |body| self.block(body, &mut inner));
                branches.push((inner, gone));
            }
        }
        let (size, opened) = (branches.len(), token.ord);
        // Those that ended, in the order in which they did: a branch without a step at once.
        let mut ended: Vec<usize> =
            (0..size).filter(|at| !matches!(branches[*at].1, Err(End::Cut))).collect();
        ended.sort_by_key(|at| branches[*at].0.ord);
        let mut counted = ended.iter().take_while(|at| branches[**at].0.ord == opened).count();
        let is_joined = loop {
            let arrived = ended[..counted].iter().filter(|at| branches[**at].1.is_ok()).count();
            let verdict = decide(cohort.policy, size as u64, arrived as u64, (counted - arrived) as u64);
            if verdict.is_some() || counted == ended.len() {
                break verdict;
            }
            counted += 1;
        };
        ended.truncate(counted);
        let newest = ended.iter().map(|at| branches[*at].0.ord).max();
        token.ord = newest.unwrap_or(opened);
        token.last = branches.iter().map(|(inner, _)| inner.last).max().unwrap_or(0).max(token.last);
        if is_joined.is_some() && token.last > token.ord {
            let node = &cohort.node;
            self.witness
                .wrong(&format!("{node} was over at {}, and {} came after it", token.ord, token.last));
        }
        let arrived = |at: &usize| ended.contains(at) && branches[*at].1.is_ok();
        token.not_before =
            (0..size).filter(arrived).map(|at| branches[at].0.not_before).max().unwrap_or(token.not_before);
        for at in (0..size).filter(|at| is_joined != Some(true) || arrived(at)) {
            for changes in &branches[at].0.log {
                token.fold(without(changes.clone(), &cohort.branches));
            }
        }
        if is_joined != Some(true) {
            token.failed.extend(branches.iter().flat_map(|(inner, _)| inner.failed.clone()));
        }
        let failure = ended.iter().find_map(|at| match &branches[*at].1 {
            Err(End::Failed(code)) => Some(code.clone()),
            _ => None,
        });
        match is_joined {
            None => Err(End::Cut),
            Some(false) => Err(End::Failed(failure.unwrap_or_else(|| "no_match".to_owned()))),
            Some(true) => cohort.join.as_ref().map_or(Ok(()), |join| self.plain_step(join, token)),
        }
    }
}

/// Whether a cohort joins or fails; `None` while it is open. An empty one joins.
fn decide(policy: Policy, size: u64, arrived: u64, failed: u64) -> Option<bool> {
    let is_over = arrived + failed == size;
    match policy {
        _ if size == 0 => Some(true),
        Policy::First(n) if arrived >= n => Some(true),
        Policy::First(n) => (size - failed < n).then_some(false),
        Policy::FailFast if failed > 0 => Some(false),
        Policy::Tolerate(n) => is_over.then_some(failed <= n),
        Policy::Drain | Policy::FailFast => is_over.then_some(failed == 0),
    }
}
