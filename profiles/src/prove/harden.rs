//! Which of several things that take away from a program can be taken together.

use std::collections::{BTreeMap, BTreeSet};

/// What a search came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hardened {
    /// What the program lives with, together.
    pub held: BTreeSet<String>,
    /// What nothing is known of, since the search was cut off.
    pub untried: Vec<String>,
}

/// Finds the most of the candidates that the program lives with: all, else what is left when halves are tried, down to
/// single ones. A candidate is a list, of which the first that it lives with is taken. Those that are `often` too much are
/// parted from the others first. `lives` tells nothing once there is no time for a trial.
///
/// One death is enough to leave something out, since nothing depends on it; and the set that is returned has itself been
/// lived with, unless it is empty.
///
/// # Errors
/// When a trial could not be made.
pub fn harden<E>(
    candidates: &[Vec<String>],
    often: &dyn Fn(&str) -> bool,
    lives: &mut Lives<'_, E>,
) -> Result<Hardened, E> {
    let is_often = |lines: &&[String]| lines.first().is_some_and(|line| often(line));
    let (last, mut all): (Vec<&[String]>, Vec<&[String]>) =
        candidates.iter().map(Vec::as_slice).partition(is_often);
    let parted = all.len();
    all.extend(last);
    let mut search = Search { found: Hardened::default(), known: BTreeMap::new(), lives };
    search.take(&all, Some(parted))?;
    Ok(search.found)
}

/// Whether a program lives with a set; `None` when there is no time to try.
pub type Lives<'a, E> = dyn FnMut(&BTreeSet<String>) -> Result<Option<bool>, E> + 'a;

struct Search<'a, 'b, E> {
    found: Hardened,
    known: BTreeMap<BTreeSet<String>, bool>,
    lives: &'a mut Lives<'b, E>,
}

impl<E> Search<'_, '_, E> {
    /// Takes what can be taken of a group, which is parted at a place, or else in the middle, where not all of it can.
    fn take(&mut self, group: &[&[String]], part: Option<usize>) -> Result<(), E> {
        let firsts = group.iter().filter_map(|lines| lines.first());
        let set: BTreeSet<String> = self.found.held.iter().chain(firsts.clone()).cloned().collect();
        if set == self.found.held {
            return Ok(());
        }
        let lived = match self.known.get(&set) {
            Some(lived) => Some(*lived),
            None => (self.lives)(&set)?,
        };
        let Some(lived) = lived else {
            self.found.untried.extend(firsts.cloned());
            return Ok(());
        };
        self.known.insert(set.clone(), lived);
        match group {
            _ if lived => self.found.held = set,
            [[_, rest @ ..]] => self.take(&[rest], None)?,
            _ => {
                let inside = |place: &usize| (1..group.len()).contains(place);
                let (first, second) = group.split_at(part.filter(inside).unwrap_or(group.len() / 2));
                self.take(first, None)?;
                self.take(second, None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where these kill, each by itself, and the trials it took.
    fn found(deadly: &[&str]) -> (String, u32) {
        let candidates = ["a", "b", "c", "d1 d2", "e", "f", "g"]
            .map(|lines| lines.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let mut trials = 0;
        let found = harden(&candidates, &|line| line == "b", &mut |set: &BTreeSet<String>| {
            trials += 1;
            Ok::<_, ()>(Some(deadly.iter().all(|line| !set.contains(*line))))
        });
        let found = found.unwrap();
        assert!(found.untried.is_empty(), "{found:?}");
        (found.held.into_iter().collect::<Vec<_>>().join(" "), trials)
    }

    #[test]
    fn what_kills_is_left_out_and_nothing_else() {
        assert_eq!(found(&[]), ("a b c d1 e f g".into(), 1));
        assert_eq!(found(&["f"]), ("a b c d1 e g".into(), 7));
        assert_eq!(found(&["b"]), ("a c d1 e f g".into(), 2), "what is often too much is known after two");
        assert_eq!(found(&["d1"]).0, "a b c d2 e f g");
        assert_eq!(found(&["d1", "d2", "a"]).0, "b c e f g");
        assert_eq!(found(&["a", "b", "c", "d1", "d2", "e", "f", "g"]).0, "");
    }

    #[test]
    fn what_there_was_no_time_for_is_named_and_what_was_lived_with_stays() {
        let candidates = ["a", "b", "c", "d"].map(|line| vec![line.to_owned()]);
        let of = |times: usize| {
            let mut left = times;
            let found = harden(&candidates, &|_| false, &mut |set: &BTreeSet<String>| {
                let lived = (left > 0).then(|| !set.contains("d"));
                left = left.saturating_sub(1);
                Ok::<_, ()>(lived)
            });
            let found = found.unwrap();
            (found.held.into_iter().collect::<String>(), found.untried.concat())
        };
        assert_eq!(of(0), (String::new(), "abcd".into()));
        assert_eq!(of(1), (String::new(), "abcd".into()));
        assert_eq!(of(2), ("ab".into(), "cd".into()));
        assert_eq!(of(9), ("abc".into(), String::new()));
    }

    #[test]
    fn no_set_is_tried_twice() {
        let candidates: Vec<Vec<String>> = (0..16).map(|number| vec![format!("{number:02}")]).collect();
        let mut seen = Vec::new();
        let found = harden(&candidates, &|_| false, &mut |set: &BTreeSet<String>| {
            seen.push(set.clone());
            Ok::<_, ()>(Some(!set.contains("03") && !set.contains("12")))
        });
        assert_eq!(found.unwrap().held.len(), 14);
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
        assert!(seen.len() <= 14, "{}", seen.len());
    }
}
