//! Nothing: the benches beside this file are the crate.
