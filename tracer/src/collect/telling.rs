//! What the program says on standard error.

use std::collections::{HashMap, VecDeque};

use nrtrace_profiles::RawText;

/// Lines kept.
const LINES: usize = 20;
/// Bytes of a line kept.
const WIDTH: usize = 512;
/// Processes with an unfinished line.
const WRITERS: usize = 64;

/// The last lines over all processes.
#[derive(Debug, Default)]
pub struct StandardError {
    lines: VecDeque<Vec<u8>>,
    unfinished: HashMap<u32, Vec<u8>>,
}

impl StandardError {
    /// Process `pid` wrote `bytes`.
    pub fn write(&mut self, pid: u32, bytes: &[u8]) {
        let mut line = self.unfinished.remove(&pid).unwrap_or_default();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            line.extend_from_slice(&text[..text.len().min(WIDTH - line.len())]);
            if text.len() < part.len() {
                self.keep(std::mem::take(&mut line));
            }
        }
        if line.is_empty() {
            return;
        }
        if self.unfinished.len() >= WRITERS {
            self.keep(line);
        } else {
            self.unfinished.insert(pid, line);
        }
    }

    /// Process `pid` has ended, and with it its line.
    pub fn ended(&mut self, pid: u32) {
        if let Some(line) = self.unfinished.remove(&pid) {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: Vec<u8>) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        if self.lines.len() >= LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last lines, oldest first.
    pub fn into_lines(mut self) -> Vec<RawText> {
        let mut rest: Vec<u32> = self.unfinished.keys().copied().collect();
        rest.sort_unstable();
        rest.into_iter().for_each(|pid| self.ended(pid));
        self.lines.into_iter().map(RawText::new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_per_process_and_cut() {
        let mut stderr = StandardError::default();
        stderr.write(1, b"nginx: [emerg] ");
        stderr.write(2, b"other\n\n");
        stderr.write(1, b"bind() failed\nhalf");
        stderr.write(3, &[b'x'; 2000]);
        stderr.ended(3);
        let lines = stderr.into_lines();
        assert_eq!(lines[..2], ["other".into(), "nginx: [emerg] bind() failed".into()]);
        assert_eq!(lines[2].as_bytes().len(), WIDTH);
        assert_eq!(lines[3], "half".into());
    }

    #[test]
    fn only_the_last_lines_stay() {
        let mut stderr = StandardError::default();
        (0..1000).for_each(|n| stderr.write(n, format!("line {n}\nrest").as_bytes()));
        assert!(stderr.unfinished.len() <= WRITERS);
        assert_eq!(stderr.into_lines().len(), LINES);
    }
}
