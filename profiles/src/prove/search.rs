//! Delta debugging over the atoms of a plan: the smallest set that the program lives with.
//!
//! All of a kind are left out at once first, then halves, then single atoms, against what is granted at the time; so
//! what remains is minimal in the sense that nothing of it can be left out alone. Programs may be flaky: so many deaths
//! are wanted before an atom counts as required as make bad luck unlikely, given how often the program dies with everything
//! granted. One that it dies without at times, and lives without at others, is kept if it always lives with it.

use std::collections::BTreeSet;

use super::atoms::{Atom, Risk};

/// What a trial came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whether the program lived.
    pub lived: bool,
    /// How it ended, in a few words; empty when it lived.
    pub how: String,
    /// Whether it said on its end that it was denied something: then bad luck is less likely to be the reason.
    pub telling: bool,
}

/// Who makes the trials.
pub trait Bench {
    /// Why a trial could not be made.
    type Error;

    /// Runs the program once for each set of needs, with these not granted; several may run at the same time. `left` is
    /// a guess at how many trials are still to come after these.
    ///
    /// # Errors
    /// When a trial could not be made at all.
    fn try_without(&mut self, removed: &[BTreeSet<String>], left: usize) -> Result<Vec<Tried>, Self::Error>;
}

/// What became of an atom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The atom.
    pub atom: Atom,
    /// Whether the program lives without.
    pub removed: bool,
    /// Trials without it alone, beside what had been left out before, in which the program died.
    pub failed: u32,
    /// How much these weigh.
    weight: u32,
    /// Deaths without it while more was granted than now, and how much they weigh.
    before: (u32, u32),
    /// The same in which it lived.
    pub lived: u32,
    /// How it last died without it.
    pub how: String,
}

impl Fate {
    /// Trials without it alone in which the program died, those included that granted more than is granted in the end.
    pub fn deaths(&self) -> u32 {
        self.failed + self.before.0
    }
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchResult {
    /// Every atom.
    pub fates: Vec<Fate>,
    /// Trials made.
    pub trials: u32,
    /// Trials with everything granted.
    pub baseline: u32,
    /// How many of these failed.
    pub flaked: u32,
    /// How often the result itself died, when it was tried again.
    pub died: u32,
    /// How the program last died with everything granted; empty if it never did.
    pub how: String,
}

impl SearchResult {
    /// Whether the program lived at all with everything granted.
    pub fn lives(&self) -> bool {
        self.flaked < self.baseline
    }

    /// Whether it lived each time it was tried with all that is granted in the end, and with more. What only lives mostly
    /// is not proved.
    pub fn is_steady(&self) -> bool {
        self.flaked == 0 && self.died == 0
    }

    /// The needs that are left out.
    pub fn removed(&self) -> BTreeSet<String> {
        self.fates
            .iter()
            .filter(|fate| fate.removed)
            .flat_map(|fate| fate.atom.needs.iter().cloned())
            .collect()
    }
}

/// Trials with everything granted, to begin with.
pub const BASELINE: usize = 3;
/// The same, of a program that is seen to be flaky.
const MORE_BASELINE: usize = 10;
/// The same, before deaths are laid to what was left out and not to the program.
const STEADY: u32 = 16;
/// Trials of the result.
const RESULT: usize = 6;
/// Weight of deaths that is wanted of a program that has not been seen to be flaky.
const DEATHS: u32 = 3;
/// Weight that is never asked for more of.
const MOST_DEATHS: u32 = 12;
/// Weight of a death of which the program told why.
const TELLING: u32 = 2;
/// How unlikely it is to be that so many deaths are all bad luck.
const UNLIKELY: f64 = 0.002;
/// So many more deaths of ten than there were with everything granted may still be chance.
const MARGIN: f64 = 4.0;
/// So many deaths of [`MORE_BASELINE`] without an atom show that it is missed at times, if there was never one with it.
const MISSED: u32 = 4;
/// Groups up to this size are taken apart into single atoms at once: most needs of a run are real.
const SMALL: usize = 8;

/// Finds a minimal set of atoms that the program lives with.
///
/// # Errors
/// When the bench fails.
pub fn minimize<B: Bench>(atoms: Vec<Atom>, bench: &mut B) -> Result<SearchResult, B::Error> {
    let fates = atoms
        .into_iter()
        .map(|atom| Fate {
            atom,
            removed: false,
            failed: 0,
            weight: 0,
            before: (0, 0),
            lived: 0,
            how: String::new(),
        })
        .collect();
    let found = SearchResult { fates, trials: 0, baseline: 0, flaked: 0, died: 0, how: String::new() };
    let mut search = Search { found, bench, luck: 0 };
    search.baseline()?;
    if search.found.lives() {
        search.groups()?;
        search.singles(&BTreeSet::new())?;
        search.confirm()?;
    }
    Ok(search.found)
}

struct Search<'a, B> {
    found: SearchResult,
    bench: &'a mut B,
    /// Deaths that later trials of the same set showed to be bad luck.
    luck: u32,
}

impl<B: Bench> Search<'_, B> {
    /// Tries sets of atoms, given by their places, each left out beside what is left out already.
    fn try_atoms(&mut self, sets: &[BTreeSet<usize>], left: usize) -> Result<Vec<Tried>, B::Error> {
        let removed = self.found.removed();
        let sets: Vec<BTreeSet<String>> = sets
            .iter()
            .map(|set| {
                let atoms = set.iter().filter_map(|place| self.found.fates.get(*place));
                removed
                    .iter()
                    .cloned()
                    .chain(atoms.flat_map(|fate| fate.atom.needs.iter().cloned()))
                    .collect()
            })
            .collect();
        let tried = self.bench.try_without(&sets, left)?;
        self.found.trials += tried.len() as u32;
        Ok(tried)
    }

    /// How reliable the program is.
    fn baseline(&mut self) -> Result<(), B::Error> {
        let rest = self.found.fates.len() * TELLING as usize + 2;
        for (count, only_if_flaky) in [(BASELINE, false), (MORE_BASELINE - BASELINE, true)] {
            if only_if_flaky && self.found.flaked == 0 {
                break;
            }
            let sets = vec![BTreeSet::new(); count];
            for tried in self.try_atoms(&sets, rest)? {
                self.count_baseline(&tried);
            }
        }
        Ok(())
    }

    fn count_baseline(&mut self, tried: &Tried) {
        self.found.baseline += 1;
        if !tried.lived {
            self.found.flaked += 1;
            self.found.how.clone_from(&tried.how);
        }
    }

    /// Weight of deaths that is wanted before an atom counts as required.
    fn deaths(&self) -> u32 {
        let (bad, all) = (self.found.flaked + self.luck, self.found.baseline + self.luck);
        if bad == 0 {
            return DEATHS;
        }
        // On the safe side: the true rate may well be higher than the one seen.
        let rate = (f64::from(bad + 1) / f64::from(all + 2)).min(0.9);
        let wanted = (UNLIKELY.ln() / rate.ln()).ceil();
        (wanted as u32).clamp(DEATHS + 1, MOST_DEATHS)
    }

    /// Leaves out what can be left out in one go, by kind.
    fn groups(&mut self) -> Result<(), B::Error> {
        let all: BTreeSet<usize> = (0..self.found.fates.len()).collect();
        let mut risks: Vec<Risk> = self.found.fates.iter().map(|fate| fate.atom.risk).collect();
        risks.dedup();
        let mut work: Vec<BTreeSet<usize>> = Vec::new();
        for risk in risks.into_iter().rev() {
            let of_kind =
                |place: &usize| self.found.fates.get(*place).is_some_and(|fate| fate.atom.risk == risk);
            work.push(all.iter().copied().filter(of_kind).collect());
        }
        if work.len() > 1 {
            work.push(all);
        }
        while let Some(group) = work.pop() {
            let group: BTreeSet<usize> = group.into_iter().filter(|place| !self.is_removed(*place)).collect();
            // Single atoms have their turn later, and with more care.
            if group.len() < 2 {
                continue;
            }
            let left = self.pending() * self.deaths() as usize + work.len();
            let tried = self.try_atoms(std::slice::from_ref(&group), left)?;
            if tried.iter().all(|tried| tried.lived) {
                group.iter().for_each(|place| self.accept(*place));
            } else if group.len() > SMALL {
                let (first, second): (Vec<_>, Vec<_>) =
                    group.iter().enumerate().partition(|(number, _)| number * 2 < group.len());
                for half in [second, first] {
                    work.push(half.into_iter().map(|(_, place)| *place).collect());
                }
            }
        }
        Ok(())
    }

    fn is_removed(&self, place: usize) -> bool {
        self.found.fates.get(place).is_none_or(|fate| fate.removed)
    }

    fn accept(&mut self, place: usize) {
        if let Some(fate) = self.found.fates.get_mut(place) {
            fate.removed = true;
            fate.lived = fate.lived.max(1);
        }
    }

    fn pending(&self) -> usize {
        self.found.fates.iter().filter(|fate| !fate.removed).count()
    }

    /// Leaves out single atoms until none is left that can be; those in `kept` are not tried.
    fn singles(&mut self, kept: &BTreeSet<usize>) -> Result<(), B::Error> {
        let mut undecided: BTreeSet<usize> = (0..self.found.fates.len())
            .filter(|place| !kept.contains(place) && !self.is_removed(*place))
            .collect();
        while !undecided.is_empty() {
            let wanted = self.deaths();
            let (dead, alive) = self.round(&undecided, wanted)?;
            let Some((first, others)) = alive.split_first() else {
                // More luck than was thought means that more deaths are wanted.
                if self.deaths() <= wanted {
                    break;
                }
                undecided = dead;
                continue;
            };
            self.accept(*first);
            // The others lived with the first one granted: together they are tried again, and so is, at the end,
            // whoever died with it granted.
            let together: BTreeSet<usize> = others.iter().copied().collect();
            if !together.is_empty() {
                let left = together.len() * wanted as usize;
                if self.try_atoms(std::slice::from_ref(&together), left)?.iter().all(|tried| tried.lived) {
                    together.iter().for_each(|place| self.accept(*place));
                }
            }
            undecided = (0..self.found.fates.len())
                .filter(|place| !kept.contains(place) && !self.is_removed(*place))
                .collect();
            for place in &undecided {
                self.forget(*place);
            }
        }
        Ok(())
    }

    /// What was seen of an atom when more was granted than now: what it died without then, it will hardly live without with
    /// less, so that one more death is enough; a life counts as before.
    fn forget(&mut self, place: usize) {
        if let Some(fate) = self.found.fates.get_mut(place) {
            fate.before = match fate.lived {
                0 => (fate.before.0 + fate.failed, fate.before.1 + fate.weight),
                _ => (0, 0),
            };
            (fate.failed, fate.weight, fate.lived) = (0, 0, 0);
        }
    }

    /// Whether an atom is required, by the trials without it; `None` when they do not tell yet.
    fn is_required(&self, place: usize, wanted: u32) -> Option<bool> {
        let fate = self.found.fates.get(place)?;
        match (fate.failed, fate.lived) {
            (0, 0) => None,
            (_, 0) => (fate.weight + fate.before.1 >= wanted).then_some(true),
            (0, _) => Some(false),
            _ if self.found.flaked > 0 => Some(false),
            (MISSED.., _) => Some(true),
            (failed, lived) => (failed + lived >= MORE_BASELINE as u32).then_some(false),
        }
    }

    /// Tries each atom alone until the trials tell whether it is required; what is, and what is not, in order.
    fn round(
        &mut self,
        undecided: &BTreeSet<usize>,
        wanted: u32,
    ) -> Result<(BTreeSet<usize>, Vec<usize>), B::Error> {
        let mut alive = Vec::new();
        let mut open: Vec<usize> = undecided.iter().copied().collect();
        loop {
            let lucky: Vec<usize> = open
                .iter()
                .copied()
                .filter(|place| self.is_required(*place, wanted) == Some(false))
                .collect();
            // Those had died before, without reason.
            self.luck += lucky
                .iter()
                .filter_map(|place| self.found.fates.get(*place))
                .map(|fate| fate.failed)
                .sum::<u32>();
            alive.extend(lucky);
            open.retain(|place| self.is_required(*place, wanted).is_none());
            if open.is_empty() {
                break;
            }
            let sets: Vec<BTreeSet<usize>> = open.iter().map(|place| BTreeSet::from([*place])).collect();
            let more: u32 = open
                .iter()
                .filter_map(|place| self.found.fates.get(*place))
                .map(|fate| {
                    wanted.saturating_sub(fate.weight + fate.before.1).div_ceil(TELLING).saturating_sub(1)
                })
                .sum();
            let mut missed = false;
            for (place, tried) in open.iter().zip(self.try_atoms(&sets, more as usize)?) {
                let Some(fate) = self.found.fates.get_mut(*place) else { continue };
                if tried.lived {
                    fate.lived += 1;
                } else {
                    fate.failed += 1;
                    // Once luck has been seen to play a part, words say little.
                    fate.weight += if tried.telling && wanted == DEATHS { TELLING } else { 1 };
                    fate.how = tried.how;
                }
                missed |= fate.failed > 0 && fate.lived > 0;
            }
            if missed {
                self.more_baseline(STEADY)?;
            }
        }
        let dead = undecided.iter().copied().filter(|place| !alive.contains(place)).collect();
        Ok((dead, alive))
    }

    /// Is it the program that dies at times, or what was left out? With everything granted it is tried so often in all.
    fn more_baseline(&mut self, times: u32) -> Result<(), B::Error> {
        let missing = times.saturating_sub(self.found.baseline);
        for tried in self.bench.try_without(&vec![BTreeSet::new(); missing as usize], 0)? {
            self.found.trials += 1;
            self.count_baseline(&tried);
        }
        Ok(())
    }

    /// The result itself, a few more times: a life without an atom may have been luck too.
    fn confirm(&mut self) -> Result<(), B::Error> {
        let mut kept = BTreeSet::new();
        while self.found.fates.iter().any(|fate| fate.removed) {
            // What it died without, and then lived without, may be missed at other times.
            let times = if self.luck > 0 { MORE_BASELINE } else { RESULT };
            let deaths = self.deaths_of_result(times)?;
            self.found.died = deaths;
            if deaths == 0 {
                break;
            }
            let wanted = self.deaths();
            let deaths = deaths + self.deaths_of_result(MORE_BASELINE - times)?;
            self.found.died = deaths;
            // Of a program that is known to be flaky, how flaky.
            let more = self.found.baseline + (MORE_BASELINE - BASELINE) as u32;
            self.more_baseline(if self.found.flaked > 0 { more } else { STEADY })?;
            let share = f64::from(self.found.flaked) / f64::from(self.found.baseline);
            if self.found.flaked > 0 && f64::from(deaths) <= share * MORE_BASELINE as f64 + MARGIN {
                if self.deaths() > wanted {
                    // It is flaky, and some of those that stay may have died of that alone.
                    self.singles(&kept)?;
                }
                break;
            }
            // What it died without before, or else the last one that was left out, is granted again.
            let removed = self.found.fates.iter().enumerate().filter(|(_, fate)| fate.removed);
            let Some(place) =
                removed.max_by_key(|(place, fate)| (fate.failed, *place)).map(|(place, _)| place)
            else {
                break;
            };
            self.found.died = 0;
            kept.insert(place);
            if let Some(fate) = self.found.fates.get_mut(place) {
                fate.removed = false;
                fate.failed += deaths;
            }
        }
        Ok(())
    }

    fn deaths_of_result(&mut self, times: usize) -> Result<u32, B::Error> {
        let tried = self.try_atoms(&vec![BTreeSet::new(); times], 0)?;
        Ok(tried.iter().filter(|tried| !tried.lived).count() as u32)
    }
}
