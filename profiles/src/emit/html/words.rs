//! The small pieces that the sections are made of.

use maud::{Markup, html};

use crate::RawText;
use crate::emit::remedy::verdict;
use crate::emit::treatment::Treatment;
use crate::grants::Grants;
use crate::requirement::Seconds;
use crate::text::printable;

/// Text with control characters made visible; maud escapes the rest.
pub(super) fn text(raw: &str) -> String {
    printable(raw).into_owned()
}

pub(super) fn path(raw: &RawText) -> String {
    raw.to_string()
}

pub(super) fn seconds(seconds: Seconds) -> String {
    let value = seconds.written();
    if value < 1.0 { format!("{:.0} ms", value * 1e3) } else { format!("{value:.1} s") }
}

/// The name of a verdict, for classes and for people.
pub(super) fn verdict_words(verdict: Treatment) -> (&'static str, &'static str) {
    match verdict {
        Treatment::Granted => ("granted", "granted"),
        // They look like what is to be done by hand.
        Treatment::Partly => ("advice", "not held by each file"),
        Treatment::Advice => ("advice", "to configure"),
        Treatment::Optional => ("optional", "not needed"),
        Treatment::Withheld => ("advice", "withheld"),
        Treatment::Unmet => ("unmet", "cannot be granted"),
    }
}

pub(super) fn verdict_of(requirement: &crate::requirement::Requirement, grants: &Grants) -> Treatment {
    verdict(grants, requirement)
}

/// Text with what stands between backticks as code.
pub(super) fn spans(raw: &str) -> Markup {
    let parts: Vec<&str> = raw.split('`').collect();
    let paired = parts.len() % 2 == 1;
    html! {
        @if !paired { (text(raw)) }
        @for (n, part) in parts.iter().enumerate().filter(|_| paired) {
            @if n % 2 == 1 { code { (text(part)) } } @else { (text(part)) }
        }
    }
}
