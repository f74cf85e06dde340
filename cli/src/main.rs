//! The `nrtrace` command: arguments, wiring, progress, exit status.

mod args;
mod output;

fn main() {}
