//! Names behind numbers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of the users and groups that a program wanted to become, or to give files to, on the machine of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accounts {
    /// By user id.
    pub users: BTreeMap<u32, String>,
    /// By group id.
    pub groups: BTreeMap<u32, String>,
}

impl Accounts {
    /// Whether no name is known.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}
