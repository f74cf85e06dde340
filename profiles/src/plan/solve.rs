//! The ways in which owner, group and ACL can express who uses a file, and the choice that takes the fewest groups.

use std::collections::{BTreeMap, BTreeSet};

use super::matrix::WRITE;
use super::model::Owner;

/// Components, by index.
pub type Set = BTreeSet<usize>;

/// A way to arrange one file or directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Components that need an ACL entry, with their permission bits.
    pub acl: BTreeMap<usize, u32>,
    /// The owner.
    pub owner: Owner,
    /// The components that the group stands for: nobody, one (its primary group) or several.
    pub group: Set,
    /// The group's permission bits.
    pub bits: u32,
}

impl Way {
    /// The set that a group has to be made for.
    fn shared(&self) -> Option<&Set> {
        (self.group.len() > 1).then_some(&self.group)
    }
}

/// All ways to give exactly these components exactly these bits, with one of the owners given: the permission bits of
/// everybody but the owner by the group where they are alike, else by ACL entries for the rest.
pub fn ways(uses: &BTreeMap<usize, u32>, owners: &[Owner]) -> Vec<Way> {
    let mut out = Vec::new();
    for &owner in owners {
        let rest: BTreeMap<usize, u32> = uses
            .iter()
            .filter(|(user, _)| Owner::Component(**user) != owner)
            .map(|(user, bits)| (*user, *bits))
            .collect();
        let alike: BTreeSet<u32> = rest.values().copied().collect();
        if alike.is_empty() {
            out.push(Way { acl: BTreeMap::new(), owner, group: Set::new(), bits: 0 });
        }
        for bits in alike {
            let (group, acl): (BTreeMap<usize, u32>, BTreeMap<usize, u32>) =
                rest.iter().partition(|(_, own)| **own == bits);
            let group: Set = group.into_keys().collect();
            // The kernel asks the owner's digit first, so the owner may as well be in the group.
            if let Owner::Component(user) = owner
                && group.len() > 1
            {
                let group = group.iter().copied().chain([user]).collect();
                out.push(Way { acl: acl.clone(), owner, group, bits });
            }
            out.push(Way { acl, owner, group, bits });
        }
    }
    let least = out.iter().map(|way| way.acl.len()).min().unwrap_or(0);
    out.retain(|way| way.acl.len() == least);
    out
}

/// The owners that give nobody more than it does: root, and each that writes, since it can do what it likes with the
/// contents anyway.
pub fn owners(uses: &BTreeMap<usize, u32>) -> Vec<Owner> {
    let writers =
        uses.iter().filter(|(_, bits)| **bits & WRITE != 0).map(|(user, _)| Owner::Component(*user));
    std::iter::once(Owner::Root).chain(writers).collect()
}

/// Steps of the search for the fewest groups; beyond, the choice is a good one and not proved the best.
const STEPS: usize = 200_000;

/// For each list of ways the one to take, so that together they need as few groups as possible.
pub fn choose(all: &[Vec<Way>]) -> Vec<Way> {
    let mut lists: Vec<BTreeSet<Set>> = Vec::new();
    for ways in all {
        if ways.iter().any(|way| way.shared().is_none()) {
            continue;
        }
        let sets: BTreeSet<Set> = ways.iter().filter_map(|way| way.shared().cloned()).collect();
        if !sets.is_empty() && !lists.contains(&sets) {
            lists.push(sets);
        }
    }
    // Where there is no choice first.
    lists.sort_by_key(BTreeSet::len);
    let mut search = Search { lists: &lists, best: greedy(&lists), steps: 0 };
    search.descend(0, &mut BTreeSet::new());
    let needed = search.best;
    let pick = |ways: &Vec<Way>| {
        let fits = |way: &&Way| way.shared().is_none_or(|set| needed.contains(set));
        // Root's ownership first, then the fewest components in the group's place.
        let rank =
            |way: &&Way| (way.shared().is_some(), way.acl.len(), way.owner != Owner::Root, (*way).clone());
        ways.iter().filter(fits).min_by_key(rank).or_else(|| ways.first()).cloned()
    };
    all.iter().filter_map(pick).collect()
}

/// For each list in turn the set that serves the most others.
fn greedy(lists: &[BTreeSet<Set>]) -> BTreeSet<Set> {
    let mut chosen: BTreeSet<Set> = BTreeSet::new();
    for list in lists {
        if list.iter().any(|set| chosen.contains(set)) {
            continue;
        }
        let serves = |set: &&Set| lists.iter().filter(|other| other.contains(*set)).count();
        if let Some(best) = list.iter().max_by_key(|set| (serves(set), std::cmp::Reverse((*set).clone()))) {
            chosen.insert(best.clone());
        }
    }
    chosen
}

struct Search<'a> {
    lists: &'a [BTreeSet<Set>],
    best: BTreeSet<Set>,
    steps: usize,
}

impl Search<'_> {
    fn descend(&mut self, at: usize, chosen: &mut BTreeSet<Set>) {
        self.steps += 1;
        if chosen.len() >= self.best.len() || self.steps > STEPS {
            return;
        }
        let next =
            (at..self.lists.len()).find(|index| !self.lists[*index].iter().any(|set| chosen.contains(set)));
        let Some(next) = next else {
            self.best = chosen.clone();
            return;
        };
        for set in &self.lists[next] {
            chosen.insert(set.clone());
            self.descend(next + 1, chosen);
            chosen.remove(set);
        }
    }
}
