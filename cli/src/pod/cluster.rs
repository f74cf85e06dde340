//! With a cluster: a copy of the pod is recorded, patched, and tried.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nrtrace_profiles::event::Mode;
use nrtrace_profiles::profile::Profile;
use serde_json::{Value, json};

use super::copies::{Place, learn};
use super::follow::Outcome;
use super::interrupt;
use super::kubectl::{Error, Kubectl};
use super::made::{Made, sweep_leftovers};
use super::manifest::{Copy, Rights, Workload};
use super::recorder;
use super::storage::{self, Storage};
use super::users::{self, Users};
use super::work::{Work, tell, workload};
use super::written::{self, Patched, Tried};
use crate::args::PodArgs;
use crate::{knowledge, results};

/// So many copies with a patch are started at the most.
const MOST: u32 = 6;
/// How long a namespace that was just made may be without its account.
const ACCOUNT: Duration = Duration::from_secs(30);

/// `nrtrace pod` with a cluster.
pub fn run(args: &PodArgs, kubectl: &Kubectl) -> Result<ExitCode> {
    let image = recorder::image(args.recorder_image.as_deref())?;
    let library = knowledge::library(&args.results.more)?;
    let output = results::open(args.results.output.as_deref(), &args.results.files)?;
    let workload = workload(args, kubectl)?;
    let containers = workload.containers(args.container.as_deref())?;
    let namespace = match (&args.namespace, workload.namespace()) {
        (Some(named), _) => named.clone(),
        (None, Some(named)) => named.to_owned(),
        (None, None) => context(kubectl)?,
    };
    let recorders = args.recorder_namespace.as_deref();
    let left = sweep_leftovers(
        kubectl,
        &[Some(namespace.as_str()), recorders].into_iter().flatten().collect::<Vec<_>>(),
    )?;
    if !left.is_empty() {
        tell(args, &format!("taken away, left by an nrtrace that was killed: {}", left.join(", ")));
    }
    let made = Made::start(kubectl)?;
    let recorders = recorders.map_or_else(|| format!("nrtrace-{}", made.id), str::to_owned);
    let without = BTreeSet::new();
    let mut work = Work {
        args,
        kubectl,
        image,
        workload,
        containers,
        namespace,
        recorders,
        without,
        away: false,
        library,
        copies: 0,
        made,
    };
    let (first, recorded) = work.record()?;
    let Settled { profiles, patched, tried } = work.settle(first)?;
    let namespace = work.described();
    let spared: Vec<String> = work.without.iter().map(Storage::to_string).collect();
    tell(args, "taking away what was made in the cluster");
    drop(work);
    let finished = written::Finished {
        recorded: &recorded,
        tried: tried.as_ref(),
        namespace: &namespace,
        spared: &spared,
    };
    written::conclude(args, output.as_ref(), &patched, &profiles, &finished)
}

/// What is to be written.
struct Settled {
    profiles: BTreeMap<String, Profile>,
    patched: Patched,
    /// What became of it with the patch, where that was asked for.
    tried: Option<Outcome>,
}

/// The namespace of kubectl's context.
fn context(kubectl: &Kubectl) -> Result<String> {
    match kubectl.ask(&["config", "view", "--minify", "--output=jsonpath={..namespace}"], None) {
        Ok(answer) if !answer.text.trim().is_empty() => Ok(answer.text.trim().to_owned()),
        Err(Error::Interrupted(interrupted)) => Err(interrupted.into()),
        _ => Ok("default".into()),
    }
}

impl Work<'_> {
    /// The profile of each container of the pod as it is, and what became of that.
    fn record(&mut self) -> Result<(BTreeMap<String, Profile>, Outcome)> {
        self.own_namespace()?;
        let fresh = self.companions()?;
        self.spare(&fresh)?;
        let (namespace, own) = (self.namespace.clone(), self.recorders.clone());
        let away = self.is_refused()?;
        self.away = away;
        if away {
            self.secrets_for(&own)?;
        }
        let place = Place { namespace: if away { &own } else { &namespace }, away };
        self.tell(&format!("recording a copy of {} in namespace {}", self.workload.title(), place.namespace));
        let workload = self.workload.clone();
        let (mut outcome, mut profiles) = self.recorded(&workload, place, Rights::Own, &BTreeMap::new())?;
        let confined: BTreeMap<String, String> = profiles
            .iter()
            .filter(|(_, profile)| profile.run.mode == Mode::Enforced)
            .map(|(name, profile)| {
                (name.clone(), format!("{}:{}", profile.identity.uid, profile.identity.gid))
            })
            .collect();
        if let (Outcome::Failed(why), false) = (&outcome, confined.is_empty()) {
            self.tell(&format!("as it is, {why}; once more as root, judged for the same user"));
            if !away {
                self.secrets_for(&own)?;
            }
            let place = Place { namespace: &own, away: true };
            let (again, seen) = self.recorded(&workload, place, Rights::Root, &confined)?;
            outcome = again;
            for (name, mut profile) in seen {
                if let Some(before) = profiles.get(&name) {
                    learn(&mut profile, before);
                }
                profiles.insert(name, profile);
            }
        }
        Ok((profiles, outcome))
    }

    /// From what was recorded to a patch: for the first of the users to try with whom it is proved, else for the first one.
    fn settle(&mut self, first: BTreeMap<String, Profile>) -> Result<Settled> {
        let mut best: Option<Settled> = None;
        for users in users::attempts(&first) {
            let settled = self.settle_for(&first, &users)?;
            let is_done = !matches!(settled.tried, Some(Outcome::Failed(_)));
            if is_done || best.is_none() {
                best = Some(settled);
            }
            if is_done {
                break;
            }
        }
        best.context("nobody to run it as")
    }

    /// The same for these users.
    fn settle_for(&mut self, first: &BTreeMap<String, Profile>, users: &Users) -> Result<Settled> {
        let mut profiles = first.clone();
        if !users.is_empty() {
            let named: Vec<String> = users.iter().map(|(name, user)| format!("{name} as {user}")).collect();
            self.tell(&format!("recording a copy for another user: {}", named.join(", ")));
            let (namespace, own) = (self.namespace.clone(), self.recorders.clone());
            let place = Place { namespace: if self.away { &own } else { &namespace }, away: self.away };
            let workload = self.workload.clone();
            let (_, again) = self.recorded(&workload, place, Rights::Own, users)?;
            profiles.extend(again.into_iter().filter(|(name, _)| users.contains_key(name)));
        }
        let mut patched =
            written::patched(self.kubectl, &self.workload, &self.containers, &profiles, self.args)?;
        let mut tried = None;
        if !profiles.is_empty() {
            if self.args.apply_dry_run {
                self.dry_run(&patched.workload)?;
            }
            if self.args.prove {
                let proof = self.prove(&mut patched, &mut profiles)?;
                written::proved(&mut profiles, self, &proof);
                tried = Some(proof.outcome);
            }
        }
        Ok(Settled { profiles, patched, tried })
    }

    /// Starts a copy with the patch, and adds what it is refused, until it is ready or nothing more comes of it.
    fn prove(&mut self, patched: &mut Patched, profiles: &mut BTreeMap<String, Profile>) -> Result<Tried> {
        let namespace = self.namespace.clone();
        let place = Place { namespace: &namespace, away: false };
        let is_unknown = |name: &&String| !profiles.contains_key(*name);
        if let Some(unknown) = self.containers.iter().find(is_unknown) {
            let why = format!("container {unknown} is as it was, since nothing was recorded of it");
            return Ok(Tried { outcome: Outcome::Failed(why), copies: 0, namespace });
        }
        let mut copies = 0;
        loop {
            copies += 1;
            self.tell(&format!("starting a copy with the patch in namespace {namespace}"));
            let outcome = self.tried(&patched.workload, place)?;
            let Outcome::Failed(why) = &outcome else {
                return Ok(Tried { outcome, copies, namespace: self.namespace.clone() });
            };
            if copies == MOST {
                return Ok(Tried { outcome, copies, namespace: self.namespace.clone() });
            }
            self.tell(&format!("with the patch, {why}; recording what it is refused"));
            let (_, seen) = self.recorded(&patched.workload, place, Rights::Writable, &BTreeMap::new())?;
            for (name, seen) in seen {
                match profiles.get_mut(&name) {
                    Some(known) => learn(known, &seen),
                    None => drop(profiles.insert(name, seen)),
                }
            }
            let more = written::patched(self.kubectl, &self.workload, &self.containers, profiles, self.args)?;
            if more.workload.object == patched.workload.object {
                return Ok(Tried { outcome, copies, namespace: self.namespace.clone() });
            }
            *patched = more;
        }
    }

    /// Makes the namespace of the recorder, unless one is named.
    fn own_namespace(&mut self) -> Result<()> {
        if self.args.recorder_namespace.is_some() {
            return Ok(());
        }
        let own = self.recorders.clone();
        let mut namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own, "labels":
            {"pod-security.kubernetes.io/enforce": "privileged"}}});
        self.made.mark(&mut namespace);
        self.made.promise(&format!("namespace {own}"))?;
        self.kubectl.create(&namespace, &[])?;
        let begun = Instant::now();
        // Pods are refused until its account is there.
        while let Err(error) = self.kubectl.object(&["get", "serviceaccount", "default", "--namespace", &own])
        {
            if !error.is_not_found() || begun.elapsed() > ACCOUNT {
                return Err(error.into());
            }
            interrupt::sleep(Duration::from_millis(200))?;
        }
        Ok(())
    }

    /// Makes what the manifest holds beside the workload, as far as it is not there: the storage that is made for this time.
    fn companions(&mut self) -> Result<BTreeSet<Storage>> {
        let mut fresh = BTreeSet::new();
        let namespace = self.namespace.clone();
        for mut object in self.workload.companions.clone() {
            let kind = object["kind"].as_str().unwrap_or_default().to_ascii_lowercase();
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            object["metadata"]["namespace"] = json!(namespace);
            self.made.mark(&mut object);
            self.made.promise_labelled(&kind, &namespace)?;
            match self.kubectl.create(&object, &[]) {
                Err(error) if error.says("(AlreadyExists)") => {}
                made => {
                    made?;
                    self.tell(&format!("{kind} {name} of the manifest is made for this time"));
                    fresh.extend((kind == "persistentvolumeclaim").then_some(Storage::Claim(name)));
                }
            }
        }
        Ok(fresh)
    }

    /// Has copies leave alone what somebody's data may be in: a claim that was there before, unless it is to be tried, and
    /// whatever a pod that runs has mounted.
    fn spare(&mut self, fresh: &BTreeSet<Storage>) -> Result<()> {
        let written = storage::changed(self.workload.pod());
        if written.is_empty() {
            return Ok(());
        }
        // Directories of a node are shared by all namespaces, where one may look at them.
        let pods = match self.kubectl.object(&["get", "pods", "--all-namespaces"]) {
            Err(Error::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(_) => self.kubectl.object(&["get", "pods", "--namespace", &self.namespace])?,
            Ok(pods) => pods,
        };
        let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let running: Vec<&Value> =
            pods["items"].as_array().into_iter().flatten().filter(|pod| !ended(pod)).collect();
        for storage in written {
            let is_near = |pod: &Value| {
                pod["metadata"]["namespace"] == *self.namespace || matches!(storage, Storage::Host(_))
            };
            let uses = |pod: &&&Value| {
                is_near(pod) && storage::mounted(&pod["spec"]).iter().any(|other| other.shares(&storage))
            };
            let why = match (running.iter().find(uses), &storage) {
                (Some(pod), _) => {
                    format!("pod {} uses it", pod["metadata"]["name"].as_str().unwrap_or_default())
                }
                (None, Storage::Claim(_)) if !self.args.with_claims && !fresh.contains(&storage) => {
                    "it may hold data, and --with-claims tries it".to_owned()
                }
                (None, _) => continue,
            };
            self.tell(&format!("copies have an empty directory in the place of {storage}: {why}"));
            self.without.insert(storage);
        }
        Ok(())
    }

    /// A copy in the pod's own namespace that is only checked.
    fn checked<'a>(&'a self, name: &'a str) -> Copy<'a> {
        let (namespace, without) = (self.namespace.as_str(), &self.without);
        Copy { name, namespace, node: None, without, away: false, rights: Rights::Own, longest: 1 }
    }

    /// Whether the namespace refuses the pod as it is.
    fn is_refused(&self) -> Result<bool> {
        match self
            .kubectl
            .create(&self.workload.copy(&self.checked("nrtrace")), &["--dry-run=server", "--output=name"])
        {
            Ok(_) => Ok(false),
            Err(error) if error.says("violates PodSecurity") => {
                self.tell(&format!(
                    "namespace {} refuses it as it is, so it is recorded in the recorder's, with copies of its Secrets and ConfigMaps and an empty directory for each claim",
                    self.namespace
                ));
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Copies what the pod names into another namespace, which goes with it.
    fn secrets_for(&mut self, namespace: &str) -> Result<()> {
        for (kind, name) in self.workload.uses() {
            let found = self.kubectl.object(&["get", kind, &name, "--namespace", &self.namespace]);
            let mut object = match found {
                Err(error) if error.is_not_found() => continue,
                found => found?,
            };
            object["metadata"] = json!({"name": name, "namespace": namespace});
            self.made.mark(&mut object);
            self.made.promise_labelled(kind, namespace)?;
            match self.kubectl.create(&object, &[]) {
                Err(error) if error.says("(AlreadyExists)") => {}
                made => drop(made?),
            }
        }
        Ok(())
    }

    /// Has the API server check the object, and its pod.
    fn dry_run(&self, workload: &Workload) -> Result<()> {
        let mut pod = workload.copy(&self.checked(workload.name()));
        pod["metadata"] = json!({"generateName": "nrtrace-", "namespace": self.namespace});
        let answer = self.kubectl.create(&pod, &["--dry-run=server", "--output=name"])?;
        let object = workload.object.to_string();
        let apply = ["apply", "--dry-run=server", "--namespace", &self.namespace, "-f", "-"];
        let applied = self.kubectl.ask(&apply, Some(&object))?;
        for warning in answer.warnings.iter().chain(&applied.warnings) {
            self.tell(&format!("the API server warns: {warning}"));
        }
        self.tell(&format!("the API server takes {} and its pod, in {}", workload.title(), self.described()));
        Ok(())
    }

    /// The namespace, with the level that it enforces.
    fn described(&self) -> String {
        let namespace = self.kubectl.object(&["get", "namespace", &self.namespace]).unwrap_or_default();
        let level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].as_str();
        match level {
            Some(level) => format!("namespace {}, which enforces {level}", self.namespace),
            None => format!("namespace {}", self.namespace),
        }
    }
}
