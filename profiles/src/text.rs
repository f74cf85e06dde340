//! Bytes that come from the tracee: paths, process names, messages.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes from the tracee, mostly text, of which nothing is assumed.
///
/// Shown and serialised as text in which a backslash is `\\`, and each byte that is not part of
/// valid UTF-8 is `\xHH`; so every value has exactly one text and every text one value. Control characters
/// stay as they are in the serialised form ([`json`] escapes them), and are escaped by [`fmt::Display`],
/// which is meant for terminals. A clone shares the bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawText(Arc<[u8]>);

impl RawText {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::from(bytes.into()))
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, where the bytes are valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The reversible text: `\\` for a backslash, `\xHH` for a byte outside valid UTF-8.
    pub fn to_text(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            out.push_str(&chunk.valid().replace('\\', "\\\\"));
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        out
    }

    /// Reads what [`RawText::to_text`] wrote. An escape that it does not write is an error.
    pub fn from_text(text: &str) -> Result<Self, BadEscape> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte != b'\\' {
                out.push(byte);
                continue;
            }
            match rest {
                [b'\\', tail @ ..] => {
                    out.push(b'\\');
                    rest = tail;
                }
                [b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    let digit = |d: u8| (d as char).to_digit(16).map_or(0, |v| v as u8);
                    out.push(digit(*high) << 4 | digit(*low));
                    rest = tail;
                }
                _ => return Err(BadEscape),
            }
        }
        Ok(Self::new(out))
    }
}

/// A backslash that is followed by neither a backslash nor `xHH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a backslash must be followed by a backslash or by x and two hexadecimal digits")]
pub struct BadEscape;

impl fmt::Display for RawText {
    /// Safe on a terminal: control characters, invisible and direction-changing characters are escaped as well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.to_text()))
    }
}

/// `text` with every control, format and direction-changing character written as an escape.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_unprintable(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters, line and paragraph separators, and what is seen by nobody or turns the direction of text around
/// (Unicode's categories Cc, Zl, Zp, and Cf but for signs that are seen).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// A value as JSON on one line, in which no character that is not printable stands as itself.
pub fn json(value: &impl Serialize) -> String {
    // Only a map with keys that are no strings or a failing writer could make this fail; there are none.
    seen(serde_json::to_string(value).unwrap_or_default())
}

/// The same on indented lines, with a closing line end.
pub fn indented_json(value: &impl Serialize) -> String {
    seen(serde_json::to_string_pretty(value).unwrap_or_default()) + "\n"
}

/// JSON in which what is not printable is written as an escape of JSON's. Those of ASCII are escaped by the serialiser,
/// but for DEL, and outside of strings there are no others.
fn seen(text: String) -> String {
    let is_hidden = |c: char| c > '~' && is_unprintable(c);
    if !text.contains(is_hidden) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_hidden(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

impl fmt::Debug for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<&str> for RawText {
    fn from(text: &str) -> Self {
        Self(Arc::from(text.as_bytes()))
    }
}

impl From<&[u8]> for RawText {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

impl Serialize for RawText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_text(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RawText {
    fn schema_name() -> Cow<'static, str> {
        "RawText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Bytes, mostly text: a backslash is written twice, and a byte outside valid UTF-8 as \\x and two hexadecimal digits.",
            "pattern": r"^([^\\]|\\\\|\\x[0-9a-fA-F]{2})*$",
        })
    }
}

/// What is wrong with a TOML file, and where. The line itself, which may be long, is not quoted.
pub fn toml_error(text: &str, error: &toml::de::Error) -> String {
    const LONGEST: usize = 300;
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let message: String = error.message().chars().take(LONGEST).collect();
    format!("{} at line {line}, column {column}", message.trim().replace('\n', ", "))
}

/// Permission bits as `ls` writes them: `r-x`.
pub fn letters(bits: u32) -> String {
    [(4, 'r'), (2, 'w'), (1, 'x')].iter().map(|(bit, c)| if bits & bit != 0 { *c } else { '-' }).collect()
}

/// The word a field-less variant is serialised as.
pub fn word(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Seconds, kept as whole nanoseconds and written with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u64);

impl Seconds {
    /// As it is written, in seconds with three decimals: what a profile in memory and the same one from a file share.
    pub fn written(self) -> f64 {
        (self.0 / 1_000_000) as f64 / 1e3
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.written())
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(Self(((seconds.max(0.0) * 1e3).round() as u64).saturating_mul(1_000_000)))
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "description": "Seconds, with three decimals." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_reversible(bytes: Vec<u8>) {
            let raw = RawText::new(bytes);
            prop_assert_eq!(RawText::from_text(&raw.to_text()).unwrap(), raw.clone());
            let json = serde_json::to_string(&raw).unwrap();
            prop_assert_eq!(serde_json::from_str::<RawText>(&json).unwrap(), raw);
        }

        #[test]
        fn json_shows_what_it_holds(text in "[\\PC\\p{Cf}\\p{Zl}\\p{Zp}\\x7f\\u{80}-\\u{9f}\n\"]*") {
            for json in [json(&text), indented_json(&text)] {
                prop_assert!(!json.trim_end().chars().any(is_unprintable), "{}", json);
                prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text.as_str());
            }
        }

        #[test]
        fn display_has_no_control_characters(bytes: Vec<u8>) {
            prop_assert!(!RawText::new(bytes).to_string().chars().any(char::is_control));
        }
    }

    #[test]
    fn what_is_not_seen_is_written_as_an_escape() {
        let hidden = "a\u{202e}b\u{2066}\u{200b}\u{feff}\u{61c}\u{2028}\u{2029}\u{7f}\u{e0041}é";
        let seen = "a\\u202eb\\u2066\\u200b\\ufeff\\u061c\\u2028\\u2029\\u007f\\udb40\\udc41é";
        assert_eq!(json(&RawText::from(hidden)), format!("\"{seen}\""));
    }

    #[test]
    fn an_unknown_escape_is_refused() {
        assert_eq!(RawText::from_text("a\\n"), Err(BadEscape));
        assert_eq!(RawText::from_text("a\\"), Err(BadEscape));
        assert_eq!(RawText::from_text("a\\x+1"), Err(BadEscape));
    }

    #[test]
    fn what_is_wrong_with_a_toml_file_is_short() {
        let said = |text: &str| toml_error(text, &toml::from_str::<toml::Table>(text).unwrap_err());
        assert!(said("a = 1\nb = = 2").ends_with("at line 2, column 5"), "{}", said("a = 1\nb = = 2"));
        assert!(said(&format!("a = {}", "[".repeat(100_000))).len() < 400);
    }
}
