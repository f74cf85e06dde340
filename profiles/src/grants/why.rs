//! What a grant is made for, and why there is none.

use std::collections::BTreeSet;

/// Which needs a grant serves, and why it is made that way.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Why {
    /// The ids of the requirements.
    pub needs: BTreeSet<String>,
    /// One short sentence. It may hold text from the tracee: escape it for where it goes.
    pub reason: String,
}

impl Why {
    pub(crate) fn new(need: &str, reason: impl Into<String>) -> Self {
        Self { needs: BTreeSet::from([need.to_owned()]), reason: reason.into() }
    }

    /// Takes over the needs of another grant of the same thing.
    pub(crate) fn also(&mut self, other: Self) {
        self.needs.extend(other.needs);
    }
}

/// A need that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// The id of the requirement.
    pub need: String,
    /// Why it cannot be granted.
    pub reason: String,
    /// What to do instead.
    pub hint: String,
}

impl Unmet {
    pub(crate) fn new(need: &str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { need: need.to_owned(), reason: reason.into(), hint: hint.into() }
    }
}
