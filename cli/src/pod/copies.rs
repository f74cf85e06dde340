//! Copies of the pod: started, followed, recorded, and gone again.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::judge;
use serde_json::Value;

use super::follow::{self, Outcome};
use super::kubectl::Kubectl;
use super::made::LONGEST;
use super::manifest::{Copy, Rights, Workload};
use super::recorder::{Recorder, Wanted};
use super::work::Work;

/// Copies that are recorded at most, where a start is missed.
const RECORDINGS: u32 = 3;

/// Where a copy runs.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Whether it is not the pod's own.
    pub away: bool,
}

/// Adds to a profile what another run of its program was refused, and what that wrote.
pub fn learn(known: &mut Profile, seen: &Profile) {
    for missing in &judge::refused(known, seen).missing {
        judge::add(known, missing);
    }
    for write in &seen.writes {
        if !known.writes.contains(write) {
            known.writes.push(write.clone());
        }
    }
    for listen in &seen.listens {
        if !known.listens.contains(listen) {
            known.listens.push(listen.clone());
        }
    }
}

impl Work<'_> {
    /// What becomes of a copy.
    pub fn tried(&mut self, workload: &Workload, place: Place<'_>) -> Result<Outcome> {
        let name = self.next(workload);
        let node = self.args.node.clone();
        let outcome = self.started(workload, place, Rights::Own, (&name, node.as_deref()))?;
        self.end(place, &name)?;
        Ok(outcome)
    }

    /// What becomes of a copy, and the profile of each of its containers; they are judged for the users that are named. Where
    /// the start of one was missed, as on a busy node, there is another copy.
    pub fn recorded(
        &mut self,
        workload: &Workload,
        place: Place<'_>,
        rights: Rights,
        users: &BTreeMap<String, String>,
    ) -> Result<(Outcome, BTreeMap<String, Profile>)> {
        let (mut outcome, mut profiles, mut missed) = self.recorded_once(workload, place, rights, users)?;
        for _ in 1..RECORDINGS {
            if missed.is_empty() {
                break;
            }
            self.tell(&format!("the start of {} was missed; recording another copy", missed.join(", ")));
            let (last, again, still) = self.recorded_once(workload, place, rights, users)?;
            for (name, profile) in again {
                if missed.contains(&name) && (!still.contains(&name) || !profiles.contains_key(&name)) {
                    profiles.insert(name, profile);
                }
            }
            outcome = last;
            missed.retain(|name| still.contains(name));
        }
        Ok((outcome, profiles))
    }

    /// The same by one copy, and of which containers the start was missed.
    fn recorded_once(
        &mut self,
        workload: &Workload,
        place: Place<'_>,
        rights: Rights,
        users: &BTreeMap<String, String>,
    ) -> Result<(Outcome, BTreeMap<String, Profile>, Vec<String>)> {
        let name = self.next(workload);
        let like = workload.copy(&self.copy(place, rights, (&name, None)));
        let mut users = users.clone();
        if let Some(user) = &self.args.target_user {
            users.extend(self.containers.iter().map(|container| (container.clone(), user.clone())));
        }
        let wanted = Wanted {
            image: self.image,
            namespace: &self.recorders,
            pod: (place.namespace, &name),
            containers: &self.containers,
            like: &like["spec"],
            node: self.args.node.as_deref(),
            users: &users,
            timeout: self.args.ready_timeout,
        };
        let recorder = Recorder::start(self.kubectl, &mut self.made, &wanted, self.copies)?;
        let outcome = self.started(workload, place, rights, (&name, Some(&recorder.node)))?;
        // Before it is ended by nrtrace, which is none of its ways to end.
        let pod =
            self.kubectl.object(&["get", "pod", &name, "--namespace", place.namespace]).unwrap_or_default();
        let profiles = self.fetched(&recorder, &pod, matches!(outcome, Outcome::Ready(_)))?;
        self.end(place, &name)?;
        recorder.end()?;
        let is_missed = |name: &&String| match profiles.get(*name) {
            Some(profile) => profile.run.attached.as_ref().is_some_and(|attached| !attached.from_start),
            None => !follow::never_ran(&pod, name),
        };
        let missed = self.containers.iter().filter(is_missed).cloned().collect();
        Ok((outcome, profiles, missed))
    }

    /// The name of another copy.
    fn next(&mut self, workload: &Workload) -> String {
        self.copies += 1;
        let name: String = workload.name().chars().take(35).collect();
        format!("{}-nrtrace-{}-{}", name.trim_end_matches(['-', '.']), self.made.id, self.copies)
    }

    fn copy<'a>(
        &'a self,
        place: Place<'a>,
        rights: Rights,
        (name, node): (&'a str, Option<&'a str>),
    ) -> Copy<'a> {
        let (without, longest) = (&self.without, LONGEST.as_secs());
        Copy { name, namespace: place.namespace, node, without, away: place.away, rights, longest }
    }

    /// Starts a copy, and follows it.
    fn started(
        &mut self,
        workload: &Workload,
        place: Place<'_>,
        rights: Rights,
        named: (&str, Option<&str>),
    ) -> Result<Outcome> {
        let mut pod = workload.copy(&self.copy(place, rights, named));
        self.made.mark(&mut pod);
        self.made.promise_labelled("pods", place.namespace)?;
        self.kubectl.create(&pod, &[]).context("the copy of the pod")?;
        let of = (place.namespace, named.0);
        let mut outcome = follow::follow(self.kubectl, of, self.args.settle, self.args.ready_timeout)?;
        if let Outcome::Failed(why) = &mut outcome
            && let Some(said) = last_words(self.kubectl, of)
        {
            why.push_str(&format!(", and said: {said}"));
        }
        Ok(outcome)
    }

    fn end(&self, place: Place<'_>, name: &str) -> Result<()> {
        let delete = ["delete", "pod", name, "--namespace", place.namespace, "--wait=true"];
        self.kubectl.ask_for_long(&delete)?;
        Ok(())
    }

    /// What was recorded of each container.
    fn fetched(
        &self,
        recorder: &Recorder<'_>,
        pod: &Value,
        lives: bool,
    ) -> Result<BTreeMap<String, Profile>> {
        let mut profiles = BTreeMap::new();
        for container in &self.containers {
            match recorder.fetch(container, lives)? {
                Some(mut profile) => {
                    self.library.annotate(&mut profile);
                    profiles.insert(container.clone(), profile);
                }
                None if follow::never_ran(pod, container) => {
                    self.tell(&format!(
                        "container {container} was not started, so nothing was recorded of it"
                    ));
                }
                None => {
                    let said = recorder.said(container).map(|said| format!(" ({said})")).unwrap_or_default();
                    self.tell(&format!("nothing was recorded of {container}{said}"));
                }
            }
        }
        Ok(profiles)
    }
}

/// What the container that failed said last.
fn last_words(kubectl: &Kubectl, (namespace, name): (&str, &str)) -> Option<String> {
    let pod = kubectl.object(&["get", "pod", name, "--namespace", namespace]).ok()?;
    let container = follow::failed_container(&pod)?;
    let words = ["logs", name, "--namespace", namespace, "--container", &container, "--tail=3"];
    let said = kubectl.ask(&words, None).ok()?;
    let lines: Vec<&str> = said.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join(" / "))
}
