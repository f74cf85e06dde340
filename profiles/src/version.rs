//! Reading files of this and of older versions.
//!
//! Each file names its schema. One of an older version is brought up to date step by step, by the rows of a table; any
//! other is refused as what it is, and not for a field that it lacks.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How a file of one version becomes one of the next.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade {
    /// The schema it has.
    pub from: &'static str,
    /// The schema it gets.
    pub to: &'static str,
    /// What changes besides.
    pub apply: fn(&mut Value),
}

/// A kind of file: what it is called, the schema it has today, and how it gets there.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What it is called in messages.
    pub name: &'static str,
    /// The schema that is written.
    pub schema: &'static str,
    /// The way from older versions.
    pub upgrades: &'static [Upgrade],
    /// The largest file that is read, in bytes. Whoever opens the file sees to it.
    pub max_bytes: u64,
    /// The most values in one file. With `max_bytes` it bounds the memory that a file can take.
    pub max_values: usize,
}

/// A text that is no file this version can use.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It ends too early.
    #[error("cannot read the {name}: it ends in the midst of it ({error}): the file is cut off")]
    Truncated {
        /// What it should have been.
        name: &'static str,
        /// What the parser says.
        error: serde_json::Error,
    },
    /// It is not JSON, or its fields are not those of such a file.
    #[error("cannot read the {name}: {error}; is this a complete {name}, as nrtrace wrote it?")]
    Malformed {
        /// What it should have been.
        name: &'static str,
        /// What the parser says.
        error: serde_json::Error,
    },
    /// It holds more than any program needs.
    #[error("cannot read the {name}: it holds more than {most} values, which none that nrtrace wrote does")]
    TooMany {
        /// What it should have been.
        name: &'static str,
        /// How many are read.
        most: usize,
    },
    /// It is of another version, or of another kind.
    #[error(
        "cannot read the {name}: its schema is {found:?}, and this nrtrace reads {known}; use the nrtrace that wrote \
         it, or trace the program again"
    )]
    Schema {
        /// What it should have been.
        name: &'static str,
        /// The schema it names.
        found: String,
        /// The schemas that are read.
        known: String,
    },
}

impl Format {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is no such file, or of a version that this one does not know.
    pub fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, ReadError> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let (name, most) = (self.name, self.max_values);
        // Each value but the first of its list or object stands behind a comma.
        if text.bytes().filter(|byte| *byte == b',').nth(most).is_some() {
            return Err(ReadError::TooMany { name, most });
        }
        let bad = |error: serde_json::Error| match error.is_eof() {
            true => ReadError::Truncated { name, error },
            false => ReadError::Malformed { name, error },
        };
        let Head { schema } = serde_json::from_str(text).map_err(bad)?;
        if schema == self.schema {
            return serde_json::from_str(text).map_err(bad);
        }
        if self.upgrades.iter().all(|upgrade| upgrade.from != schema) {
            let known = || [self.schema].into_iter().chain(self.upgrades.iter().map(|upgrade| upgrade.from));
            let known = known().map(|schema| format!("{schema:?}")).collect::<Vec<_>>().join(", ");
            return Err(ReadError::Schema { name, found: schema, known });
        }
        let mut value: Value = serde_json::from_str(text).map_err(bad)?;
        for upgrade in self.upgrades {
            if value["schema"] == upgrade.from {
                (upgrade.apply)(&mut value);
                value["schema"] = upgrade.to.into();
            }
        }
        serde_json::from_value(value).map_err(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct File {
        schema: String,
        words: Vec<String>,
    }

    const FORMAT: Format = Format {
        name: "file",
        schema: "test/v3",
        upgrades: &[
            Upgrade {
                from: "test/v1",
                to: "test/v2",
                apply: |file| file["words"] = serde_json::json!([file["word"]]),
            },
            Upgrade {
                from: "test/v2",
                to: "test/v3",
                apply: |file| {
                    if let Some(words) = file["words"].as_array_mut() {
                        words.push("new".into());
                    }
                },
            },
        ],
        max_bytes: 1000,
        max_values: 5,
    };

    fn read(text: &str) -> Result<File, ReadError> {
        FORMAT.read(text)
    }

    #[test]
    fn older_versions_are_brought_up_to_date() {
        for (text, words) in [
            (r#"{"schema": "test/v1", "word": "a"}"#, vec!["a", "new"]),
            (r#"{"schema": "test/v2", "words": ["a"]}"#, vec!["a", "new"]),
            (r#"{"schema": "test/v3", "words": ["a"], "later": 1}"#, vec!["a"]),
        ] {
            let file = read(text).unwrap();
            assert_eq!(
                (file.schema.as_str(), file.words),
                ("test/v3", words.into_iter().map(String::from).collect())
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        assert!(
            matches!(read(r#"{"schema": "test/v4"}"#), Err(ReadError::Schema { found, .. }) if found == "test/v4")
        );
        assert!(matches!(read(r#"{"schema": "test/v3", "wor"#), Err(ReadError::Truncated { .. })));
        assert!(matches!(read(""), Err(ReadError::Truncated { .. })));
        assert!(matches!(read(r#"{"schema": "test/v3"}"#), Err(ReadError::Malformed { .. })));
        assert!(matches!(read(r#"{"schema": "test/v1", "word": 3}"#), Err(ReadError::Malformed { .. })));
        assert!(matches!(read("[]"), Err(ReadError::Malformed { .. })));
        assert!(matches!(read(&"[".repeat(100_000)), Err(ReadError::Malformed { .. })));
        assert!(matches!(read("[,,,,,,,"), Err(ReadError::TooMany { .. })));
    }
}
