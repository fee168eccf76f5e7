//! The one error of the core: a stable code and a sentence that names the value and the way out.

use std::fmt;

/// Why the core refuses. The codes are part of the public contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The input is wrong: a graph, a state, an option, a key's form.
    Invalid,
    /// A well-formed key that names nothing.
    NotFound,
    /// Somebody else won, or the flow's status forbids it.
    Conflict,
    /// Broken bytes or a broken journal: never the user's fault.
    Corrupt,
}

impl Code {
    /// The code as it is spelt in every language and message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A refusal of the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// What happened, with which value, and what to do.
    pub message: String,
}

/// A result of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Bad input.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: Code::Invalid, message: message.into() }
    }

    /// Nothing of that name or key.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: Code::NotFound, message: message.into() }
    }

    /// Refused because of what is already so.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { code: Code::Conflict, message: message.into() }
    }

    /// Bytes or a journal that no version of the core has written.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self { code: Code::Corrupt, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
