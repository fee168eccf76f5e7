//! Random graphs that are legal by construction, as trees of blocks.

use serde_json::{json, Value};

use super::rng::Rng;

/// What a graph may hold.
#[derive(Clone, Copy)]
pub struct Kinds {
    /// Switches, gotos, `on_error` edges, declared retries.
    pub routes: bool,
    /// Loops over several nodes, lone conditions, and conditions that cannot be evaluated.
    pub wild: bool,
    /// `fail_fast` and `First`, of which the outcome depends on the order of arrival.
    pub races: bool,
}

#[expect(clippy::option_option, reason = "a default that goes straight on is not the lack of one")]
pub enum Block {
    Task(Task),
    Sequence(Vec<Block>),
    /// The last part is what happens when no arm matches: `Some(None)` goes on, `None` is an error.
    Switch {
        node: String,
        arms: Vec<(Test, Option<Block>)>,
        default: Option<Option<Box<Block>>>,
    },
    /// A body, and a node that may ask to begin it again.
    Loop {
        body: Box<Block>,
        node: String,
    },
    Cohort(Cohort),
}

pub struct Task {
    pub node: String,
    /// It goes on only when this holds.
    pub when: Option<Test>,
    /// It may ask for a goto back to itself, or ahead.
    pub loops: bool,
    pub jumps: bool,
    pub on_error: OnError,
    pub retries: bool,
}

pub enum OnError {
    Nowhere,
    Ahead,
    Handler(String),
}

pub struct Cohort {
    pub node: String,
    /// `None`: all branches run to the end.
    pub join: Option<String>,
    pub branches: Vec<Branch>,
    pub policy: Policy,
    pub on_error: bool,
}

pub struct Branch {
    pub way: Way,
    /// `None`: straight to the join.
    pub body: Option<Block>,
}

pub enum Way {
    Plain,
    When(Test),
    /// Over this field, under this name.
    Each(&'static str, String),
}

#[derive(Clone, Copy)]
pub enum Policy {
    Drain,
    Tolerate(u64),
    FailFast,
    First(u64),
}

/// A condition with its meaning.
#[derive(Clone, Copy)]
pub enum Test {
    Yes,
    No,
    OddN,
    HasX,
    LongL,
    /// An error.
    Broken,
}

impl Test {
    pub fn text(self) -> &'static str {
        match self {
            Self::Yes => "true",
            Self::No => "1 > 2",
            Self::OddN => "n % 2 == 1",
            Self::HasX => "has(x)",
            Self::LongL => "len(l) > 3",
            Self::Broken => "1 / (len(l) - len(l)) > 1",
        }
    }

    /// What it comes to; `None` when it cannot be evaluated.
    pub fn holds(self, state: &Value) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No => Some(false),
            Self::OddN => Some(state["n"].as_i64().is_some_and(|n| n.rem_euclid(2) == 1)),
            Self::HasX => Some(!state["x"].is_null()),
            // The length of null is 0.
            Self::LongL => Some(state["l"].as_array().is_some_and(|l| l.len() > 3)),
            Self::Broken => None,
        }
    }
}

const TESTS: [Test; 5] = [Test::Yes, Test::No, Test::OddN, Test::HasX, Test::LongL];

/// The arrays of the input that a `for_each` may be over.
const ARRAYS: [&str; 3] = ["two", "five", "absent"];

/// The input of every flow.
pub fn input() -> Value {
    json!({"n": 1, "l": ["in"], "u": [1], "t": 3, "s": 5, "p": true, "c": "c", "m": {"in": 1}, "two": [10, 20],
        "five": [{"k": 1}, "two", 3, [4], null]})
}

pub fn reducers() -> Value {
    json!({"n": "add", "l": "append", "u": "union", "t": "max", "s": "min", "p": "and", "q": "or", "c": "concat",
        "m": "merge", "y": "replace"})
}

pub struct Maker<'r> {
    rng: &'r mut Rng,
    kinds: Kinds,
    nodes: u64,
    left: u64,
}

/// A random tree of about `size` nodes.
pub fn make(rng: &mut Rng, kinds: Kinds, size: u64) -> Block {
    let left = 1 + rng.below(size);
    Maker { rng, kinds, nodes: 0, left }.sequence(3, true)
}

impl Maker<'_> {
    fn name(&mut self) -> String {
        self.nodes += 1;
        self.left = self.left.saturating_sub(1);
        format!("n{}", self.nodes)
    }

    fn sequence(&mut self, depth: u64, is_trunk: bool) -> Block {
        let length = 1 + self.rng.below(3);
        let mut blocks: Vec<Block> = (0..length).map(|_| self.block(depth)).collect();
        if is_trunk && self.rng.chance(25) {
            blocks.push(Block::Cohort(self.cohort(depth, true)));
        }
        Block::Sequence(blocks)
    }

    fn block(&mut self, depth: u64) -> Block {
        if depth == 0 || self.left == 0 || self.rng.chance(40) {
            return Block::Task(self.task());
        }
        if self.kinds.routes && self.rng.chance(30) {
            return self.switch(depth - 1);
        }
        if self.kinds.wild && self.rng.chance(20) {
            let node = self.name();
            return Block::Loop { body: Box::new(self.block(depth - 1)), node };
        }
        if self.rng.chance(20) {
            return self.sequence(depth - 1, false);
        }
        Block::Cohort(self.cohort(depth - 1, false))
    }

    fn task(&mut self) -> Task {
        let node = self.name();
        let routes = self.kinds.routes;
        let on_error = match self.rng.below(if routes { 7 } else { 1 }) {
            0..=4 => OnError::Nowhere,
            5 => OnError::Ahead,
            _ => OnError::Handler(self.name()),
        };
        let when = (self.kinds.wild && self.rng.chance(8)).then(|| self.test());
        Task {
            node,
            when,
            loops: routes && self.rng.chance(20),
            jumps: routes && self.rng.chance(20),
            on_error,
            retries: routes && self.rng.chance(30),
        }
    }

    fn test(&mut self) -> Test {
        if self.kinds.wild && self.rng.chance(8) {
            Test::Broken
        } else {
            *self.rng.pick(&TESTS)
        }
    }

    fn switch(&mut self, depth: u64) -> Block {
        let node = self.name();
        let first = self.rng.below(5) as usize;
        let arms = (first..=first + self.rng.below(2) as usize)
            .map(|at| {
                let is_broken = self.kinds.wild && at == first && self.rng.chance(5);
                let test = if is_broken { Test::Broken } else { TESTS[at % TESTS.len()] };
                (test, self.maybe(depth))
            })
            .collect();
        let is_total = !self.kinds.wild || self.rng.chance(85);
        let default = is_total.then(|| self.maybe(depth).map(Box::new));
        Block::Switch { node, arms, default }
    }

    fn maybe(&mut self, depth: u64) -> Option<Block> {
        self.rng.chance(60).then(|| self.block(depth))
    }

    fn cohort(&mut self, depth: u64, ends: bool) -> Cohort {
        let node = self.name();
        let join = (!ends).then(|| self.name());
        let mut branches: Vec<Branch> = (0..self.rng.below(3)).map(|_| self.branch(depth)).collect();
        if self.rng.chance(50) || branches.len() < 2 {
            let bind = format!("i{}", self.nodes);
            let body = Some(self.block(depth));
            branches.push(Branch { way: Way::Each(ARRAYS[self.rng.below(3) as usize], bind), body });
        }
        // Two edges into one target are one edge.
        let mut is_straight = false;
        branches.retain(|branch| branch.body.is_some() || !std::mem::replace(&mut is_straight, true));
        if branches.iter().filter(|b| !matches!(b.way, Way::Each(..))).count() < 2
            && !branches.iter().any(|b| matches!(b.way, Way::Each(..)))
        {
            branches.push(Branch { way: Way::Plain, body: Some(Block::Task(self.task())) });
            branches.push(Branch { way: Way::Plain, body: Some(Block::Task(self.task())) });
        }
        let policy = match self.rng.below(if self.kinds.races { 8 } else { 5 }) {
            0..=2 => Policy::Drain,
            3 | 4 => Policy::Tolerate(1 + self.rng.below(2)),
            5 | 6 => Policy::FailFast,
            _ => Policy::First(1 + self.rng.below(branches.len() as u64)),
        };
        let on_error = self.kinds.routes && join.is_some() && self.rng.chance(20);
        Cohort { node, join, branches, policy, on_error }
    }

    fn branch(&mut self, depth: u64) -> Branch {
        let way = if self.rng.chance(50) { Way::Plain } else { Way::When(self.test()) };
        Branch { way, body: self.rng.chance(85).then(|| self.block(depth)) }
    }
}

/// The definition of a tree.
pub fn definition(tree: &Block) -> Value {
    let mut writer = Writer::default();
    let entry = writer.write(tree, "END");
    writer.nodes.reverse();
    json!({"name": "g", "entry": entry, "nodes": writer.nodes, "edges": writer.edges, "reducers": reducers()})
}

#[derive(Default)]
struct Writer {
    nodes: Vec<Value>,
    edges: Vec<Value>,
}

impl Writer {
    fn edge(&mut self, from: &str, to: &str, kind: &str, more: Value) {
        let mut edge = json!({"from": from, "to": to, "kind": kind});
        if let (Some(edge), Value::Object(more)) = (edge.as_object_mut(), more) {
            edge.extend(more);
        }
        self.edges.push(edge);
    }

    /// Writes `block` so that it goes on to `next`; gives its first node.
    fn write(&mut self, block: &Block, next: &str) -> String {
        match block {
            Block::Task(task) => self.task(task, next),
            Block::Sequence(blocks) => {
                blocks.iter().rev().fold(next.to_owned(), |next, block| self.write(block, &next))
            }
            Block::Switch { node, arms, default } => {
                self.nodes.push(json!({"name": node}));
                for (test, body) in arms {
                    let to = body.as_ref().map_or(next.to_owned(), |body| self.write(body, next));
                    self.edge(node, &to, "switch", json!({"when": test.text()}));
                }
                if let Some(default) = default {
                    let to = default.as_ref().map_or(next.to_owned(), |body| self.write(body, next));
                    self.edge(node, &to, "switch", json!({"default": true}));
                }
                node.clone()
            }
            Block::Loop { body, node } => {
                self.nodes.push(json!({"name": node}));
                self.edge(node, next, "plain", json!({}));
                let head = self.write(body, node);
                self.edge(node, &head, "goto", json!({}));
                head
            }
            Block::Cohort(cohort) => self.cohort(cohort, next),
        }
    }

    fn task(&mut self, task: &Task, next: &str) -> String {
        let mut node = json!({"name": task.node});
        if task.retries {
            node["retry"] = json!({"max_attempts": 3, "initial_ms": 5, "jitter": 0.0});
        }
        self.nodes.push(node);
        match task.when {
            Some(test) => self.edge(&task.node, next, "when", json!({"when": test.text()})),
            None => self.edge(&task.node, next, "plain", json!({})),
        }
        if task.loops {
            self.edge(&task.node, &task.node, "goto", json!({}));
        }
        if task.jumps {
            self.edge(&task.node, next, "goto", json!({}));
        }
        match &task.on_error {
            OnError::Handler(handler) => {
                self.nodes.push(json!({"name": handler}));
                self.edge(&task.node, handler, "on_error", json!({}));
                self.edge(handler, next, "plain", json!({}));
            }
            OnError::Ahead => self.edge(&task.node, next, "on_error", json!({})),
            OnError::Nowhere => {}
        }
        task.node.clone()
    }

    fn cohort(&mut self, cohort: &Cohort, next: &str) -> String {
        let policy = match cohort.policy {
            Policy::Drain => json!({"policy": "drain"}),
            Policy::Tolerate(n) => json!({"policy": "tolerate", "n": n}),
            Policy::FailFast => json!({"policy": "fail_fast"}),
            Policy::First(n) => json!({"policy": "first", "n": n}),
        };
        self.nodes.push(json!({"name": cohort.node, "on_failure": policy}));
        let join = cohort.join.as_deref().unwrap_or("END");
        if cohort.join.is_some() {
            self.nodes.push(json!({"name": join, "fan_in": true}));
            self.edge(join, next, "plain", json!({}));
        }
        for branch in &cohort.branches {
            let to = branch.body.as_ref().map_or(join.to_owned(), |body| self.write(body, join));
            match &branch.way {
                Way::Plain => self.edge(&cohort.node, &to, "plain", json!({})),
                Way::When(test) => self.edge(&cohort.node, &to, "when", json!({"when": test.text()})),
                Way::Each(over, bind) => {
                    self.edge(&cohort.node, &to, "for_each", json!({"over": over, "bind": bind}));
                }
            }
        }
        if cohort.on_error {
            self.edge(&cohort.node, join, "on_error", json!({}));
        }
        cohort.node.clone()
    }
}
