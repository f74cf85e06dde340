//! Lines at the foot of a terminal, below what the program writes.
//!
//! The terminal itself keeps them apart: what is above scrolls in a region of its own (DECSTBM, as apt(8) does it), so that the
//! program has the terminal as ever and nothing that it writes is touched.

use std::io::{IsTerminal, Write};

use console::Term;

/// A lower terminal has no room for it.
const LEAST: u16 = 12;
/// Lines there are at most.
const MOST: u16 = 9;

/// The foot of the terminal on standard error, for as long as this lives.
pub struct Foot {
    terminal: Term,
    /// Height and width when it was made.
    size: (u16, u16),
}

impl Foot {
    /// Makes room for it; `None` where there is no terminal, or a low one.
    pub fn make() -> Option<Self> {
        let terminal = Term::stderr();
        let size = terminal.size_checked().filter(|(height, _)| *height >= LEAST)?;
        let is_plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if !std::io::stderr().is_terminal() || is_plain {
            return None;
        }
        write(&begin(size.0));
        Some(Self { terminal, size })
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        usize::from(room(self.size.0))
    }

    /// Shows these lines, as far as there is room, the last of them at the very foot.
    pub fn show(&mut self, lines: &[String]) {
        if let Some(size) = self.terminal.size_checked().filter(|size| *size != self.size) {
            write(&end(self.size.0));
            self.size = size;
            write(&begin(size.0));
        }
        write(&shown(self.size, lines));
    }
}

impl Drop for Foot {
    fn drop(&mut self) {
        write(&end(self.size.0));
    }
}

/// In one piece, which nothing of the program's comes between.
fn write(text: &str) {
    // Nobody is hurt where it is not seen.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn room(height: u16) -> u16 {
    MOST.min(height / 3)
}

/// Scrolls what is there up, and keeps what comes above the foot. Setting a region moves the cursor, so that is saved.
fn begin(height: u16) -> String {
    let room = room(height);
    let lines = "\n".repeat(usize::from(room));
    format!("{lines}\x1b[{room}A\x1b7\x1b[1;{}r\x1b8", height - room)
}

fn end(height: u16) -> String {
    format!("\x1b7\x1b[{};1H\x1b[J\x1b[r\x1b8", height - room(height) + 1)
}

fn shown((height, width): (u16, u16), lines: &[String]) -> String {
    let room = room(height);
    let mut out = String::from("\x1b7\x1b[0m");
    let above = usize::from(room).saturating_sub(lines.len());
    for at in 0..room {
        let line = usize::from(at).checked_sub(above).and_then(|at| lines.get(at)).map_or("", String::as_str);
        let line = console::truncate_str(line, usize::from(width), "…");
        out.push_str(&format!("\x1b[{};1H\x1b[2K{line}", height - room + 1 + at));
    }
    out + "\x1b8"
}
