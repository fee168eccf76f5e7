//! The definition of a graph as JSON: its members, its canonical form and its id.
//!
//! Canonical means: members in the order of these types, defaults left out, no spaces. It is a
//! fixed point: the canonical form of a canonical form is itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::retry::{FailurePolicy, RetryPolicy};
use crate::error::{Error, Result};

/// A whole graph, as it is written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The display name.
    pub name: String,
    /// The node that a flow starts with.
    pub entry: String,
    /// All nodes.
    pub nodes: Vec<NodeDef>,
    /// All edges; their order is the order of branches.
    #[serde(default)]
    pub edges: Vec<EdgeDef>,
    /// Reducer names by field.
    #[serde(default)]
    pub reducers: BTreeMap<String, String>,
}

/// One node, as it is written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDef {
    /// Its name.
    pub name: String,
    /// The task it runs; empty means the one of the node's name.
    #[serde(default)]
    pub task: String,
    /// The branches of a cohort meet here.
    #[serde(default)]
    pub fan_in: bool,
    /// Time for one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_budget_ms: Option<u64>,
    /// Declared retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// What its steps use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The failure policy of the cohort that it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<FailureDef>,
}

/// A cohort's failure policy, as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureDef {
    /// `drain`, `fail_fast`, `tolerate` or `first`.
    pub policy: String,
    /// The number of the last two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
}

/// One edge, as it is written. Which members go with which kind is checked by the compiler.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeDef {
    /// The source node.
    pub from: String,
    /// The target node, or `END`.
    pub to: String,
    /// `plain`, `when`, `switch`, `for_each`, `goto` or `on_error`.
    pub kind: String,
    /// The condition of `when` and `switch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The field with the array of `for_each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// The name of an element in its branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// The arm of a `switch` that is taken when no other matches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
}

impl Definition {
    /// Reads a definition and fills in what it leaves out.
    ///
    /// # Errors
    /// `invalid` when the text is not JSON of this form; what it means is not checked here.
    pub fn parse(text: &str) -> Result<Self> {
        let mut definition: Self = serde_json::from_str(text)
            .map_err(|reason| Error::invalid(format!("the graph definition cannot be read: {reason}")))?;
        for node in &mut definition.nodes {
            node.normalize();
        }
        for edge in &mut definition.edges {
            if edge.kind == "for_each" {
                edge.bind.get_or_insert_with(|| "item".to_owned());
            }
        }
        Ok(definition)
    }

    /// The one text of this definition.
    ///
    /// # Errors
    /// None in practice: every member has a JSON form.
    pub fn canonical(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|reason| Error::invalid(format!("graph {:?} cannot be written: {reason}", self.name)))
    }
}

impl NodeDef {
    fn normalize(&mut self) {
        if self.task.is_empty() {
            self.task.clone_from(&self.name);
        }
        self.on_failure.take_if(|failure| failure.policy == "drain" && failure.n.is_none());
    }
}

impl FailureDef {
    /// The policy this spells.
    pub(super) fn policy(&self) -> std::result::Result<FailurePolicy, String> {
        match (self.policy.as_str(), self.n) {
            ("drain", None) => Ok(FailurePolicy::Drain),
            ("fail_fast", None) => Ok(FailurePolicy::FailFast),
            ("tolerate", Some(n)) if n > 0 => Ok(FailurePolicy::Tolerate(n)),
            ("first", Some(n)) if n > 0 => Ok(FailurePolicy::First(n)),
            ("tolerate" | "first", _) => {
                Err(format!("on_failure {:?} needs a number n of at least 1", self.policy))
            }
            ("drain" | "fail_fast", Some(_)) => Err(format!("on_failure {:?} takes no number", self.policy)),
            _ => Err(format!(
                "on_failure is {:?}; give \"drain\", \"fail_fast\", \"tolerate\" or \"first\"",
                self.policy
            )),
        }
    }
}

/// The id of the graph with this canonical definition.
pub(super) fn id_of(canonical: &str) -> [u8; 32] {
    Sha256::digest(canonical.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Definition::parse(text).unwrap().canonical().unwrap()
    }

    #[test]
    fn order_spaces_and_defaults_do_not_matter() {
        let short = r#"{"name":"g","entry":"a","nodes":[{"name":"a"}],"edges":[{"from":"a","to":"a","kind":"for_each","over":"x"}]}"#;
        let long = r#"{ "reducers": {}, "edges": [{"default": false, "bind": "item", "over": "x", "kind": "for_each",
            "to": "a", "from": "a", "when": null}], "entry": "a", "name": "g",
            "nodes": [{"fan_in": false, "task": "a", "on_failure": {"policy": "drain"}, "name": "a"}] }"#;
        assert_eq!(canonical(short), canonical(long));
        assert_eq!(canonical(&canonical(long)), canonical(long));
    }

    #[test]
    fn edges_and_nodes_keep_their_order_and_reducers_have_one() {
        let text = r#"{"name":"g","entry":"b","nodes":[{"name":"b"},{"name":"a"}],"reducers":{"z":"add","a":"min"}}"#;
        let canonical = canonical(text);
        assert!(canonical.find(r#""name":"b""#) < canonical.find(r#""name":"a""#));
        assert!(canonical.ends_with(r#""reducers":{"a":"min","z":"add"}}"#));
    }

    #[test]
    fn floats_keep_every_bit() {
        for multiplier in [1.1_f64, 1.0 / 3.0 + 1.0, 2.000_000_000_000_000_4, 8.41e21] {
            let policy = format!(r#"{{"max_attempts":2,"initial_ms":1,"multiplier":{multiplier:?}}}"#);
            let read: RetryPolicy = serde_json::from_str(&policy).unwrap();
            let again: RetryPolicy = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
            assert_eq!([read.multiplier.to_bits(), again.multiplier.to_bits()], [multiplier.to_bits(); 2]);
        }
    }

    #[test]
    fn an_id_is_the_sha_256_of_the_text() {
        assert_eq!(id_of("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
