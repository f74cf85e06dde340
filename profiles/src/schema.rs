//! The JSON Schemas (draft 2020-12) of the files, made from the types that read and write them.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::changes::{self, Changes};
use crate::check::{CheckResult, Policy};
use crate::diff::Diff;
use crate::explain::Explanation;
use crate::profile::{self, Profile};
use crate::trace::{self, SavedTrace};

/// A kind of file that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `profile.json`.
    Profile,
    /// `changes.json`, which `apply` reads.
    Changes,
    /// What `run --save-trace` writes.
    Trace,
    /// What `check --policy` reads; it has no `schema` field.
    Policy,
    /// What `check --format json` prints.
    Check,
    /// What `diff --format json` prints.
    Diff,
    /// What `explain --format json` prints.
    Explain,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Profile, Self::Changes, Self::Trace, Self::Policy, Self::Check, Self::Diff, Self::Explain];

    /// The value of the file's `schema` field.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Profile => profile::SCHEMA,
            Self::Changes => changes::SCHEMA,
            Self::Trace => trace::SCHEMA,
            Self::Policy => "nrtrace/policy/v1",
            Self::Check => CheckResult::SCHEMA,
            Self::Diff => Diff::SCHEMA,
            Self::Explain => Explanation::SCHEMA,
        }
    }

    /// The name of the schema's file: `profile-v1.schema.json`.
    pub fn file_name(self) -> String {
        let (name, version) = self.parts();
        format!("{name}-{version}.schema.json")
    }

    fn parts(self) -> (&'static str, &'static str) {
        let version = self.version();
        version.strip_prefix("nrtrace/").and_then(|rest| rest.split_once('/')).unwrap_or((version, ""))
    }

    /// The schema, as indented JSON with a closing line end.
    pub fn text(self) -> String {
        let schema = match self {
            Self::Profile => of::<Profile>(self),
            Self::Changes => of::<Changes>(self),
            Self::Trace => of::<SavedTrace>(self),
            Self::Policy => of::<Policy>(self),
            Self::Check => of::<CheckResult>(self),
            Self::Diff => of::<Diff>(self),
            Self::Explain => of::<Explanation>(self),
        };
        format!("{schema:#}\n")
    }
}

/// What nrtrace alone writes is described as written, all else as it is read.
fn settings(kind: Kind) -> SchemaSettings {
    match kind {
        Kind::Check | Kind::Diff | Kind::Explain => SchemaSettings::draft2020_12().for_serialize(),
        _ => SchemaSettings::draft2020_12(),
    }
}

fn of<T: JsonSchema>(kind: Kind) -> Value {
    let mut schema = settings(kind).into_generator().into_root_schema_for::<T>();
    let (name, version) = kind.parts();
    schema.insert("$id".into(), format!("urn:nrtrace:schema:{name}:{version}").into());
    schema.insert("title".into(), format!("nrtrace {name}").into());
    let mut schema = schema.to_value();
    // The types take any text there, and the readers look at it first.
    if let Some(field) = schema.pointer_mut("/properties/schema") {
        *field = serde_json::json!({ "const": kind.version() });
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_names_its_version() {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Policy) {
            let schema: Value = serde_json::from_str(&kind.text()).unwrap();
            assert_eq!(schema["properties"]["schema"]["const"], kind.version());
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
            assert!(schema["required"].as_array().is_some_and(|names| names.contains(&"schema".into())));
        }
        assert_eq!(Kind::Profile.file_name(), "profile-v1.schema.json");
    }
}
