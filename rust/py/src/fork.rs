//! Objects that a fork must not carry along: their locks may be held by threads that the child does not have.

use penstock_core::error::{Error, Result};

/// The process in which an object was made.
#[derive(Clone, Copy)]
pub struct Home(u32);

impl Home {
    /// This process.
    pub fn here() -> Self {
        Self(std::process::id())
    }

    /// Refuses in a process that was forked from the object's own. Comes before every lock of the object.
    ///
    /// # Errors
    /// `invalid` with both process ids.
    pub fn check(self, what: &str) -> Result<()> {
        let here = std::process::id();
        if here == self.0 {
            return Ok(());
        }
        let made = self.0;
        Err(Error::invalid(format!(
            "this {what} was made in process {made} and is used in process {here}; make one after the fork"
        )))
    }
}
