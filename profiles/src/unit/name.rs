//! Names of units, systemd.unit(5).

use std::fmt;

/// The name of a service unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// What comes before `@`, or before the kind.
    pub prefix: String,
    /// Between `@` and the kind: empty in the name of a template, `None` where there is no `@`.
    pub instance: Option<String>,
}

/// A name that is none of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It holds what no name holds.
    #[error("{0:?} is no name of a unit")]
    NoName(String),
    /// It is of another kind.
    #[error("{0} is no service: only services start programs (.service)")]
    OtherKind(String),
}

/// The other kinds of units.
const KINDS: [&str; 10] =
    ["socket", "target", "timer", "path", "mount", "automount", "slice", "scope", "device", "swap"];
/// The longest name, as in systemd.unit(5).
const LONGEST: usize = 255;

impl Name {
    /// Reads a name; `.service` may be left out.
    ///
    /// # Errors
    /// When it is no name of a service.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let other = text.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
        if other {
            return Err(BadName::OtherKind(text.to_owned()));
        }
        let stem = text.strip_suffix(".service").unwrap_or(text);
        let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
        if stem.is_empty() || text.len() > LONGEST || stem.starts_with('@') || !stem.chars().all(is_valid) {
            return Err(BadName::NoName(text.to_owned()));
        }
        Ok(match stem.split_once('@') {
            Some((prefix, instance)) => Self { prefix: prefix.into(), instance: Some(instance.into()) },
            None => Self { prefix: stem.into(), instance: None },
        })
    }

    /// Whether it stands for all instances.
    pub fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// The name without its kind.
    pub fn stem(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}@{instance}", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// The template that an instance is made from.
    pub fn template(&self) -> Option<Self> {
        let instance = self.instance.as_ref().filter(|instance| !instance.is_empty());
        instance.map(|_| Self { instance: Some(String::new()), ..self.clone() })
    }

    /// The directories of its drop-ins, by name, those first whose files stand in for others of the same name; without that
    /// of all services.
    pub fn drop_in_directories(&self) -> Vec<String> {
        let mut names = vec![format!("{self}.d")];
        names.extend(self.template().map(|template| format!("{template}.d")));
        // `a-b-c.service` heeds `a-b-.service.d` and `a-.service.d`.
        let mut at = self.prefix.trim_end_matches('-');
        while let Some((before, _)) = at.rsplit_once('-') {
            if !before.is_empty() {
                names.push(format!("{before}-.service.d"));
            }
            at = before.trim_end_matches('-');
        }
        names
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.service", self.stem())
    }
}

/// What an escaped name stands for: `-` for `/`, and `\x2d` for the byte.
pub(super) fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'\\').then(|| text.get(at + 1..at + 4)).flatten();
        let escaped = hex.and_then(|hex| u8::from_str_radix(hex.strip_prefix('x')?, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(if *byte == b'-' { b'/' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
