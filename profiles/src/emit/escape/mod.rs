//! One module for each family of syntax: how bytes of any kind are written so that its reader gets back exactly
//! these bytes, and nothing else.

pub mod markdown;
pub mod shell;
pub mod tmpfiles;
pub mod unit;
pub mod xml;
pub mod yaml;

use crate::text::printable;

/// Text for a comment that ends with its line: control characters are escaped, and it does not end in a
/// backslash, which some readers take for a continuation.
pub fn comment(text: &str) -> String {
    let mut out = printable(text).into_owned();
    if out.ends_with('\\') {
        out.push('.');
    }
    out
}
