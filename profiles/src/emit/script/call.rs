//! How a script finds nrtrace and calls it.

use crate::emit::escape::shell::assignment;
use crate::emit::page::Page;
use crate::grants::Grants;

/// Finds nrtrace, and has it do something with the directory that the script is in.
pub(in crate::emit) fn call(page: &mut Page, grants: &Grants, what: &str) {
    page.line("set -eu");
    let program = grants.choices.program.as_deref().unwrap_or("nrtrace");
    page.line(&assignment("nrtrace", program.as_bytes()));
    page.line("if command -v nrtrace >/dev/null; then nrtrace=$(command -v nrtrace); fi");
    page.line("nrtrace=${NRTRACE:-$nrtrace}");
    page.line("here=$(dirname -- \"$0\")");
    page.line("if ! [ -f \"$here/changes.json\" ]; then echo \"$0: changes.json is to lie beside it\" >&2; exit 2; fi");
    page.line(
        "if ! [ -x \"$nrtrace\" ]; then echo \"$0: install nrtrace, or name it in the variable NRTRACE\" >&2; exit 3; fi",
    );
    page.line(&format!("\"$nrtrace\" {what} -- \"$here\""));
}
