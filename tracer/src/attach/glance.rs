//! Looking through all that runtimes know, which takes longer than a start: beside the loop that must not miss one.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::places::Places;
use super::process::Facts;
use super::state::{self, Known};
use super::waiting::is_runtime;
use super::{Subject, Target, find, upcoming};

/// What there was when it was looked.
pub struct Glance {
    /// What all runtimes know.
    pub all: Vec<Known>,
    /// What is waited for, where its process is there.
    pub subject: Option<Subject>,
    /// The program that this is to become, where it is the runtime's still.
    pub upcoming: Option<Facts>,
    /// Where runtimes keep what they know.
    pub places: Places,
}

/// Who looks.
pub struct Glances {
    asks: Sender<()>,
    answers: Receiver<Glance>,
    /// Whether an answer is to come.
    asked: bool,
}

impl Glances {
    /// Looks for that, and for more such places.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn at(target: &Target, mut places: Places) -> std::io::Result<Self> {
        let (asks, asked) = channel::<()>();
        let (answer, answers) = channel();
        let target = target.clone();
        let look = move || {
            while asked.recv().is_ok() {
                places = places.again();
                let subject = find(&target).ok();
                let runtime = subject.as_ref().filter(|subject| is_runtime(&subject.main));
                let upcoming = runtime.and_then(|runtime| upcoming(&target, runtime)).map(|soon| soon.main);
                let all = state::joined(state::all());
                if answer.send(Glance { all, subject, upcoming, places: places.clone() }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("nrtrace-glance".into()).spawn(look)?;
        Ok(Self { asks, answers, asked: false })
    }

    /// Has it look once more, unless it does.
    pub fn ask(&mut self) {
        self.asked = self.asked || self.asks.send(()).is_ok();
    }

    /// What it saw since.
    pub fn take(&mut self) -> Option<Glance> {
        let glance = self.answers.try_recv().ok()?;
        self.asked = false;
        Some(glance)
    }
}
