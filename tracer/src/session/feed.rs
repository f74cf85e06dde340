//! What comes of what is watched, for as long as it is: records go on to who collects them, and progress is told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nrtrace_profiles::event::Phase;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Interval, MissedTickBehavior};

use super::{Progress, Sink, Source, TICK};
use crate::launch::Error;
use crate::launch::signals::Signals;
use crate::members::Members;

/// One in so many ticks is told as progress.
const TOLD: u32 = 10;

/// A source, and where what it tells goes.
pub(crate) struct Feed<'a, S: Sink + ?Sized> {
    pub(crate) source: &'a mut dyn Source,
    pub(crate) sink: &'a mut S,
    pub(crate) progress: &'a mut dyn FnMut(Progress),
    pub(crate) members: Members,
    pub(crate) start: Instant,
    ticks: u32,
    /// What the source was told of equal calls.
    turn: Option<u32>,
}

/// What there is to be done.
pub(crate) enum Happened {
    /// Signals came.
    Signals,
    /// There are records.
    Records,
    /// Whoever is told of at the end has something to tell.
    Told,
    /// Time has passed: [`TICK`].
    Tick,
}

/// What is waited for.
pub(crate) struct Waiting {
    signals: AsyncFd<OwnedFd>,
    records: AsyncFd<OwnedFd>,
    told: Option<AsyncFd<OwnedFd>>,
    ticks: Interval,
}

impl<'a, S: Sink + ?Sized> Feed<'a, S> {
    pub(crate) fn new(
        source: &'a mut dyn Source,
        sink: &'a mut S,
        progress: &'a mut dyn FnMut(Progress),
        main: u32,
    ) -> Self {
        let members = Members::new(main);
        let mut feed = Self { source, sink, progress, members, start: Instant::now(), ticks: 0, turn: None };
        feed.fold();
        feed
    }

    /// Tells the source whether equal calls are to be told once, when that has changed.
    fn fold(&mut self) {
        let turn = self.sink.turn();
        if turn != self.turn {
            self.turn = turn;
            self.source.fold(turn);
        }
    }

    /// Takes in how often what was told once was made again.
    pub(crate) fn count(&mut self) {
        let sink = &mut *self.sink;
        self.source.repeats(&mut |told| sink.repeated(told));
    }

    /// Another phase begins; the records of what was before have been handed over.
    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.count();
        self.sink.set_phase(phase);
        self.fold();
    }

    /// Hands over all records there are.
    pub(crate) fn drain(&mut self) {
        let (sink, members) = (&mut *self.sink, &mut self.members);
        self.source.drain(&mut |bytes| {
            members.take(bytes);
            sink.record(bytes);
        });
        self.fold();
    }

    /// Whether it is time to tell how it comes along; that is told then.
    pub(crate) fn tell(&mut self) -> bool {
        let told = self.ticks.is_multiple_of(TOLD);
        if told {
            self.count();
            let (counters, lost) = (self.sink.counters(), self.source.lost());
            (self.progress)(Progress::Running { elapsed: self.start.elapsed(), counters, lost });
        }
        self.ticks = self.ticks.wrapping_add(1);
        told
    }

    /// What is waited for: signals, records, and what `told` becomes readable for.
    ///
    /// # Errors
    /// When the runtime cannot poll them.
    pub(crate) fn waiting(&self, signals: &Signals, told: Option<BorrowedFd<'_>>) -> Result<Waiting, Error> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Waiting {
            signals: pollable(signals.as_fd()).map_err(failed("signals"))?,
            records: pollable(self.source.as_fd()).map_err(failed("records"))?,
            told: told.map(pollable).transpose().map_err(failed("the program's end"))?,
            ticks,
        })
    }
}

impl Waiting {
    /// Waits. A closed channel is readable for ever, and no tick would come any more: who has ended is no longer to be
    /// heard.
    ///
    /// # Errors
    /// When polling fails.
    pub(crate) async fn next(&mut self, hears: bool) -> Result<Happened, Error> {
        let told = async {
            match &self.told {
                Some(told) => told.readable().await.map(|mut ready| ready.clear_ready()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = self.signals.readable() => {
                ready.map_err(failed("signals"))?.clear_ready();
                Ok(Happened::Signals)
            }
            ready = self.records.readable() => {
                ready.map_err(failed("records"))?.clear_ready();
                Ok(Happened::Records)
            }
            ready = told, if hears => {
                ready.map_err(failed("the program's end"))?;
                Ok(Happened::Told)
            }
            _ = self.ticks.tick() => Ok(Happened::Tick),
        }
    }
}

fn failed(subject: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::system("polling", subject, error)
}

/// A duplicate of `fd`, registered with the runtime.
pub(crate) fn pollable(fd: BorrowedFd<'_>) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open, and the same one, until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(fd.try_clone_to_owned()?, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}
