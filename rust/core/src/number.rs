//! (skeleton: filled by its owner)
