//! The compiled graph of a workflow.

pub mod condition;
