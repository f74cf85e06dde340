//! Which of several things that take away from a program can be taken together.

use std::collections::{BTreeMap, BTreeSet};

/// Finds the most of the candidates that the program lives with: all, else what is left when halves are tried, down to
/// single ones. A candidate is a list, of which the first that it lives with is taken.
///
/// One death is enough to leave something out, since nothing depends on it; and the set that is returned has itself been
/// lived with, unless it is empty.
///
/// # Errors
/// When a trial could not be made.
pub fn harden<E>(
    candidates: &[Vec<String>],
    lives: &mut dyn FnMut(&BTreeSet<String>) -> Result<bool, E>,
) -> Result<BTreeSet<String>, E> {
    let all: Vec<&[String]> = candidates.iter().map(Vec::as_slice).collect();
    let mut search = Search { held: BTreeSet::new(), known: BTreeMap::new(), lives };
    search.take(&all)?;
    Ok(search.held)
}

struct Search<'a, E> {
    held: BTreeSet<String>,
    known: BTreeMap<BTreeSet<String>, bool>,
    lives: &'a mut dyn FnMut(&BTreeSet<String>) -> Result<bool, E>,
}

impl<E> Search<'_, E> {
    fn take(&mut self, group: &[&[String]]) -> Result<(), E> {
        let firsts = group.iter().filter_map(|lines| lines.first().cloned());
        let set: BTreeSet<String> = self.held.iter().cloned().chain(firsts).collect();
        if set == self.held {
            return Ok(());
        }
        let lived = match self.known.get(&set) {
            Some(lived) => *lived,
            None => (self.lives)(&set)?,
        };
        self.known.insert(set.clone(), lived);
        match group {
            _ if lived => self.held = set,
            [[_, rest @ ..]] => self.take(&[rest])?,
            _ => {
                let (first, second) = group.split_at(group.len() / 2);
                self.take(first)?;
                self.take(second)?;
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
        let found = harden(&candidates, &mut |set: &BTreeSet<String>| {
            trials += 1;
            Ok::<_, ()>(deadly.iter().all(|line| !set.contains(*line)))
        });
        (found.unwrap().into_iter().collect::<Vec<_>>().join(" "), trials)
    }

    #[test]
    fn what_kills_is_left_out_and_nothing_else() {
        assert_eq!(found(&[]), ("a b c d1 e f g".into(), 1));
        assert_eq!(found(&["f"]), ("a b c d1 e g".into(), 5));
        assert_eq!(found(&["d1"]).0, "a b c d2 e f g");
        assert_eq!(found(&["d1", "d2", "a"]).0, "b c e f g");
        assert_eq!(found(&["a", "b", "c", "d1", "d2", "e", "f", "g"]).0, "");
    }

    #[test]
    fn no_set_is_tried_twice() {
        let candidates: Vec<Vec<String>> = (0..16).map(|number| vec![format!("{number:02}")]).collect();
        let mut seen = Vec::new();
        let found = harden(&candidates, &mut |set: &BTreeSet<String>| {
            seen.push(set.clone());
            Ok::<_, ()>(!set.contains("03") && !set.contains("12"))
        });
        assert_eq!(found.unwrap().len(), 14);
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
        assert!(seen.len() <= 14, "{}", seen.len());
    }
}
