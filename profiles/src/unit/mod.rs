//! Units of systemd as systemd reads them: systemd.syntax(7), systemd.unit(5), systemd.service(5).
//!
//! Where the files are is not known here: whoever has found them hands their texts over, the unit's first and then its
//! drop-ins, in the order in which they apply.

mod environment;
mod exec;
mod name;
mod service;
mod specifier;
mod syntax;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use environment::variables;
pub use exec::{Exec, Prefix};
pub use name::{BadName, Name};
pub use service::{Kind, NoService, Service};
pub use specifier::Host;
pub use syntax::{boolean, words};

use syntax::Assignment;

/// A unit with its drop-ins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    assignments: Vec<Assignment>,
}

impl Unit {
    /// Reads the texts of its files, in the order in which they apply.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self { assignments: texts.into_iter().flat_map(syntax::assignments).collect() }
    }

    fn values(&self, section: &str, key: &str) -> Vec<&str> {
        let of_key = self.assignments.iter().filter(|one| one.section == section && one.key == key);
        of_key.map(|one| one.value.as_str()).collect()
    }

    /// The value of a directive that holds one: the last; `None` where that is empty, or there is none.
    pub fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.values(section, key).last().copied().filter(|value| !value.is_empty())
    }

    /// The values of a directive that holds several: those since it was last empty.
    pub fn list(&self, section: &str, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for value in self.values(section, key) {
            if value.is_empty() {
                values.clear();
            } else {
                values.push(value);
            }
        }
        values
    }

    /// Whether there is nothing in it: so is a unit that was masked by an empty file.
    pub fn is_empty(&self) -> bool {
        self.assignments.is_empty()
    }
}

/// What a profile keeps of the unit that starts its program: what the files written must not contradict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OfUnit {
    /// Its name, with what tells its kind: `nginx.service`.
    pub name: String,
    /// What it says already, drop-ins included, of what the drop-in would say too.
    pub directives: BTreeMap<String, Vec<String>>,
    /// The values of `ExecStart=` that the drop-in has to set in place of the unit's own, which would have the service run as
    /// root: the same without `+` and `!`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub start: Vec<String>,
}

impl OfUnit {
    /// The name of it without its kind.
    pub fn stem(&self) -> &str {
        self.name.strip_suffix(".service").unwrap_or(&self.name)
    }

    /// Whether the unit takes something away by this directive itself.
    pub fn restricts(&self, directive: &str) -> bool {
        let values = self.directives.get(directive).map(Vec::as_slice).unwrap_or_default();
        values.iter().any(|value| boolean(value) != Some(false))
    }

    /// Whether the unit lets its processes have a capability at all, `CapabilityBoundingSet=`: lines add to it, and those
    /// that begin with `~` take away.
    pub fn may_have(&self, capability: &str) -> bool {
        let Some(lines) = self.directives.get("CapabilityBoundingSet") else { return true };
        let names = |line: &str| line.split_whitespace().any(|name| name == capability);
        let mut may = lines.first().is_some_and(|line| line.starts_with('~'));
        for line in lines {
            match line.strip_prefix('~') {
                Some(rest) => may &= !names(rest),
                None => may |= names(line),
            }
        }
        may
    }

    /// The mode that the unit has for directories of a kind, by the name of the directive: `RuntimeDirectory`. One that
    /// names some and no mode has 0755, systemd.exec(5).
    pub fn mode(&self, directive: &str) -> Option<u32> {
        let given = self.directives.get(&format!("{directive}Mode")).and_then(|values| values.last());
        match given {
            Some(mode) => u32::from_str_radix(mode, 8).ok(),
            None => self.directives.contains_key(directive).then_some(0o755),
        }
    }
}
