//! What is seen of a container that is waited for: that it has ended before it could be watched, or was missed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::state::{self, Known};
use super::waiting::is_runtime;
use super::{Error, Subject, Target};

/// What runs for so long and was not seen to begin was missed.
const MISSED: Duration = Duration::from_millis(300);

/// What was seen of a container that is waited for, by looking.
#[derive(Debug, Default)]
pub struct Sight {
    /// The ends of earlier runs, by the container's id; nothing before the first look.
    past: Option<BTreeSet<(String, String)>>,
    /// Whether a runtime knew it.
    known: bool,
    /// Since when none does any more, or it has ended.
    gone: Option<Instant>,
    /// Since when its program runs.
    runs: Option<Instant>,
}

impl Sight {
    /// What there is before anybody is told that it is waited for: what ends from here on has been waited for.
    ///
    /// # Errors
    /// None but those of a container that has ended, which there is none of yet.
    pub fn before(target: &Target) -> Result<Self, Error> {
        let mut sight = Self::default();
        sight.look(target)?;
        Ok(sight)
    }

    /// Whether it is still there and has not ended, once it was.
    pub(super) fn look(&mut self, target: &Target) -> Result<(), Error> {
        let Target::Container(_) = target else { return Ok(()) };
        self.saw_all(target, &state::joined(state::all()))
    }

    /// The same by what all runtimes know now.
    pub(super) fn saw_all(&mut self, target: &Target, all: &[Known]) -> Result<(), Error> {
        let Target::Container(name) = target else { return Ok(()) };
        let known: Vec<Known> = all.iter().filter(|known| known.is_called(name)).cloned().collect();
        self.saw(&known);
        match self.gone {
            Some(since) if since.elapsed() > MISSED => Err(Error::Passed { name: name.clone() }),
            _ => Ok(()),
        }
    }

    /// Takes in what is known of it now.
    fn saw(&mut self, known: &[Known]) {
        let ends: BTreeSet<(String, String)> =
            known.iter().filter_map(|known| Some((known.id.clone(), known.ended.clone()?))).collect();
        let past = self.past.get_or_insert_with(|| ends.clone());
        // One that runs again has another end before it.
        past.retain(|end| ends.contains(end));
        let has_ended = ends.iter().any(|end| !past.contains(end));
        let was_removed = self.known && known.is_empty();
        self.known |= !known.is_empty();
        let is_gone = has_ended || was_removed;
        self.gone = self.gone.filter(|_| is_gone).or(is_gone.then(Instant::now));
    }

    /// What runs, and was not seen to begin.
    pub(super) fn missed<'s>(&mut self, found: Option<&'s Subject>) -> Option<&'s Subject> {
        let subject = found.filter(|subject| !is_runtime(&subject.main));
        self.runs = self.runs.filter(|_| subject.is_some()).or(subject.is_some().then(Instant::now));
        subject.filter(|_| self.runs.is_some_and(|since| since.elapsed() > MISSED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_container_ends_the_waiting() {
        let known = |end: Option<&str>| {
            vec![Known { id: "aa".into(), ended: end.map(str::to_owned), ..Known::default() }]
        };
        // What is seen, one look after another, and whether it has ended by then.
        for (looks, expected) in [
            (vec![vec![], known(None)], false),
            (vec![vec![], known(Some("1"))], true),
            (vec![vec![], known(None), vec![]], true),
            (vec![known(Some("1")), known(Some("1"))], false),
            (vec![known(Some("1")), known(Some("2"))], true),
            (vec![known(Some("exited")), known(None), known(Some("exited"))], true),
            (vec![vec![], known(Some("1")), known(None)], false),
        ] {
            let mut sight = Sight::default();
            looks.iter().for_each(|known| sight.saw(known));
            assert_eq!(sight.gone.is_some(), expected, "{looks:?}");
        }
    }
}
