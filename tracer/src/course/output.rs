//! The program's standard output and error, where nrtrace stands between.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, pipe2};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use crate::launch::Error;

/// What becomes of the program's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capture {
    /// It has nrtrace's own, unless its log is looked at: then it is passed on.
    #[default]
    Pass,
    /// Its end is kept, and nothing is passed on; its standard input is empty.
    Keep,
}

/// Of what the program says, so many bytes of the end are kept.
const KEPT: usize = 16 << 10;
/// A longer line is looked at in pieces.
const LINE: usize = 64 << 10;
/// Room for what is said between two looks.
const PIPE: i32 = 1 << 20;

/// Both pipes, and what came through them.
#[derive(Debug)]
pub struct Output {
    streams: Vec<Stream>,
    capture: Capture,
    pattern: Option<Regex>,
    kept: VecDeque<u8>,
    matched: bool,
    // The program's ends, until it has them.
    given: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Stream {
    from: std::fs::File,
    line: Vec<u8>,
}

impl Output {
    /// Makes the pipes, where they are needed. They belong to the program's user, which may open them again by name.
    ///
    /// # Errors
    /// When the kernel refuses a pipe.
    pub fn new(
        capture: Capture,
        pattern: Option<Regex>,
        owner: Option<(u32, u32)>,
    ) -> Result<Option<Self>, Error> {
        if capture == Capture::Pass && pattern.is_none() {
            return Ok(None);
        }
        let failed =
            |error: nix::errno::Errno| Error::system("making a pipe for", "the program's output", error);
        let mut output = Self {
            streams: Vec::new(),
            capture,
            pattern,
            kept: VecDeque::new(),
            matched: false,
            given: Vec::new(),
        };
        if capture == Capture::Keep {
            let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
            output.given.push(null.map_err(failed)?);
        }
        for _ in 0..2 {
            let (from, to) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
            fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
            // More room is a help, no need.
            let _ = fcntl(&from, FcntlArg::F_SETPIPE_SZ(PIPE));
            if let Some((uid, gid)) = owner {
                nix::unistd::fchown(&to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(failed)?;
            }
            output.streams.push(Stream { from: from.into(), line: Vec::new() });
            output.given.push(to);
        }
        Ok(Some(output))
    }

    /// The program's standard input, output and error; `None` where it has nrtrace's.
    pub fn descriptors(&self) -> [Option<RawFd>; 3] {
        let mut ends = self.given.iter().map(AsRawFd::as_raw_fd);
        let input = if self.capture == Capture::Keep { ends.next() } else { None };
        [input, ends.next(), ends.next()]
    }

    /// The program has its ends: nrtrace's are closed, so that the pipes end with the program.
    pub fn given(&mut self) {
        self.given.clear();
    }

    /// Takes what has come.
    pub fn drain(&mut self) {
        let mut buffer = [0; 16 << 10];
        for (number, stream) in self.streams.iter_mut().enumerate() {
            while let Ok(length @ 1..) = stream.from.read(&mut buffer) {
                let bytes = buffer.get(..length).unwrap_or_default();
                match self.capture {
                    Capture::Keep => self.kept.extend(bytes),
                    // A closed output is the caller's wish.
                    Capture::Pass if number == 0 => drop(pass_on(&mut std::io::stdout(), bytes)),
                    Capture::Pass => drop(pass_on(&mut std::io::stderr(), bytes)),
                }
                if let Some(pattern) = &self.pattern {
                    self.matched |= stream.matches(pattern, bytes);
                }
            }
        }
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
    }

    /// Whether a line has matched.
    pub fn matched(&self) -> bool {
        self.matched
    }

    /// The end of what was said.
    pub fn into_kept(self) -> Vec<u8> {
        self.kept.into()
    }
}

fn pass_on(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

impl Stream {
    /// Whether a line matches that ends in `bytes`; what has not ended yet is looked at too.
    fn matches(&mut self, pattern: &Regex, bytes: &[u8]) -> bool {
        self.line.extend_from_slice(bytes);
        let mut found = false;
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            found |= pattern.is_match(line.strip_suffix(b"\r").unwrap_or(line));
        }
        if self.line.len() > LINE {
            found |= pattern.is_match(&self.line);
            self.line.clear();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_match_whole_however_they_come() {
        let pattern = Regex::new("^listening on \\d+$").unwrap();
        let mut output = Output::new(Capture::Keep, Some(pattern), None).unwrap().unwrap();
        let [input, standard, error] = output.descriptors();
        assert!(input.is_some() && error.is_some());
        let mut program = std::fs::File::from(
            output.given.iter().find(|fd| Some(fd.as_raw_fd()) == standard).unwrap().try_clone().unwrap(),
        );
        output.given();
        program.write_all(b"starting\nlisten").unwrap();
        output.drain();
        assert!(!output.matched());
        program.write_all(b"ing on 80").unwrap();
        output.drain();
        assert!(!output.matched(), "more digits may follow");
        program.write_all(b"\r\n").unwrap();
        output.drain();
        assert!(output.matched());
        assert_eq!(output.into_kept(), b"starting\nlistening on 80\r\n");
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut output = Output::new(Capture::Keep, None, None).unwrap().unwrap();
        let standard = output.descriptors()[1].unwrap();
        let end = output.given.iter().find(|fd| fd.as_raw_fd() == standard).unwrap();
        let mut program = std::fs::File::from(end.try_clone().unwrap());
        output.given();
        for _ in 0..5 {
            program.write_all(&[b'x'; KEPT]).unwrap();
            output.drain();
        }
        program.write_all(b"end").unwrap();
        output.drain();
        let kept = output.into_kept();
        assert!(kept.len() == KEPT && kept.ends_with(b"xend"));
        assert!(Output::new(Capture::Pass, None, None).unwrap().is_none());
    }
}
