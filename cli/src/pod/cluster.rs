//! With a cluster: a copy of the pod is recorded, patched, and tried.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nrtrace_profiles::event::Mode;
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::merge::merge;
use nrtrace_profiles::profile::Profile;
use serde_json::json;

use super::follow::{self, Outcome};
use super::kubectl::{Error, Kubectl};
use super::made::{LONGEST, Made, sweep_leftovers};
use super::manifest::{Copy, Workload, claims_of};
use super::recorder::{self, Recorder, Wanted};
use super::written::{self, Patched};
use super::{interrupt, tell, workload};
use crate::args::PodArgs;
use crate::{knowledge, results};

/// So often what a patched copy was refused is added, and it is started again.
const ROUNDS: u32 = 4;
/// How long a namespace that was just made may be without its account.
const ACCOUNT: Duration = Duration::from_secs(30);

/// The work on one pod.
struct Work<'a> {
    args: &'a PodArgs,
    kubectl: &'a Kubectl,
    image: &'a str,
    workload: Workload,
    containers: Vec<String>,
    namespace: String,
    /// Where recorders run.
    recorders: String,
    /// Claims in whose place copies have an empty directory.
    without: BTreeSet<String>,
    library: Library,
    rounds: u32,
    made: Made,
}

/// One copy, and what was recorded of it.
struct Round {
    outcome: Outcome,
    profiles: BTreeMap<String, Profile>,
}

/// Where a copy runs, and how.
#[derive(Clone, Copy)]
struct Place<'a> {
    namespace: &'a str,
    away: bool,
    as_root: bool,
}

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
        library,
        rounds: 0,
        made,
    };
    let (mut profiles, recorded) = work.record()?;
    let mut patched = written::patched(kubectl, &work.workload, &work.containers, &profiles, args)?;
    let mut tried = None;
    if !profiles.is_empty() {
        if args.apply_dry_run {
            work.dry_run(&patched.workload)?;
        }
        if args.prove {
            tried = Some(work.prove(&mut patched, &mut profiles)?);
        }
    }
    let namespace = work.described();
    tell(args, "taking away what was made in the cluster");
    drop(work);
    let finished = written::Finished { recorded: &recorded, tried: tried.as_ref(), namespace: &namespace };
    written::conclude(args, output.as_ref(), &patched, &profiles, &finished)
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
    fn tell(&self, text: &str) {
        tell(self.args, text);
    }

    /// The profile of each container of the pod as it is, and what became of that.
    fn record(&mut self) -> Result<(BTreeMap<String, Profile>, Outcome)> {
        self.own_namespace()?;
        self.companions()?;
        self.claims_in_use()?;
        let (namespace, own) = (self.namespace.clone(), self.recorders.clone());
        let away = self.is_refused()?;
        if away {
            self.secrets_for(&own)?;
        }
        let place = Place { namespace: if away { &own } else { &namespace }, away, as_root: false };
        self.tell(&format!("recording a copy of {} in namespace {}", self.workload.title(), place.namespace));
        let none = BTreeMap::new();
        let Round { mut outcome, mut profiles } = self.round(&self.workload.clone(), place, &none)?;
        let confined: BTreeMap<String, String> = profiles
            .iter()
            .filter(|(_, profile)| profile.run.mode == Mode::Enforced)
            .map(|(name, profile)| {
                (name.clone(), format!("{}:{}", profile.identity.uid, profile.identity.gid))
            })
            .collect();
        if let (Outcome::Failed(why), false) = (&outcome, confined.is_empty()) {
            self.tell(&format!("as it is, {why}; once more as root, judged for the same user"));
            let own_place = Place { namespace: &own, away: true, as_root: true };
            if !away {
                self.secrets_for(&own)?;
            }
            let again = self.round(&self.workload.clone(), own_place, &confined)?;
            outcome = again.outcome;
            self.add(&mut profiles, again.profiles);
        }
        Ok((profiles, outcome))
    }

    /// Starts a copy with the patch, and adds what it is refused, until it is ready or nothing more comes of it.
    fn prove(&mut self, patched: &mut Patched, profiles: &mut BTreeMap<String, Profile>) -> Result<Outcome> {
        let namespace = self.namespace.clone();
        let place = Place { namespace: &namespace, away: false, as_root: false };
        let none = BTreeMap::new();
        for round in 1.. {
            self.tell(&format!("starting a copy with the patch in namespace {namespace}"));
            let Round { outcome, profiles: seen } = self.round(&patched.workload.clone(), place, &none)?;
            let Outcome::Failed(why) = &outcome else { return Ok(outcome) };
            self.add(profiles, seen);
            let more = written::patched(self.kubectl, &self.workload, &self.containers, profiles, self.args)?;
            if round == ROUNDS || more.workload.object == patched.workload.object {
                return Ok(outcome);
            }
            self.tell(&format!("{why}; once more, with what it was refused"));
            *patched = more;
        }
        Ok(Outcome::Failed("it was never started".into()))
    }

    /// Adds what another copy showed.
    fn add(&self, profiles: &mut BTreeMap<String, Profile>, more: BTreeMap<String, Profile>) {
        for (name, mut profile) in more {
            if let Some(known) =
                profiles.get(&name).filter(|known| known.identity.uid == profile.identity.uid)
            {
                // A user without an account is called after the program, which may have been seen as another one.
                profile.identity = known.identity.clone();
            }
            let merged = match profiles.get(&name) {
                Some(known) => merge([known, &profile]),
                None => Ok(profile),
            };
            match merged {
                Ok(profile) => drop(profiles.insert(name, profile)),
                Err(error) => self.tell(&format!("{name}: {error}")),
            }
        }
    }

    /// Has a copy recorded until it is ready, and it is gone.
    fn round(
        &mut self,
        workload: &Workload,
        place: Place<'_>,
        users: &BTreeMap<String, String>,
    ) -> Result<Round> {
        self.rounds += 1;
        let name: String = workload.name().chars().take(35).collect();
        let name = format!("{}-nrtrace-{}-{}", name.trim_end_matches('-'), self.made.id, self.rounds);
        let mut copy = Copy {
            name: &name,
            namespace: place.namespace,
            node: self.args.node.as_deref(),
            without: &self.without,
            away: place.away,
            as_root: place.as_root,
            longest: LONGEST.as_secs(),
        };
        let like = workload.copy(&Copy { node: None, ..copy.clone() });
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
        let kubectl = self.kubectl;
        let recorder = Recorder::start(kubectl, &mut self.made, &wanted, self.rounds)?;
        copy.node = Some(&recorder.node);
        let mut pod = workload.copy(&copy);
        self.made.mark(&mut pod);
        self.made.promise_labelled("pods", place.namespace)?;
        kubectl.create(&pod, &[]).context("the copy of the pod")?;
        let of = (place.namespace, name.as_str());
        let mut outcome = follow::follow(kubectl, of, self.args.settle, self.args.ready_timeout)?;
        if let Outcome::Failed(why) = &mut outcome
            && let Some(said) = last_words(kubectl, of)
        {
            why.push_str(&format!(", and said: {said}"));
        }
        // Before it is ended by nrtrace, which is none of its ways to end.
        let profiles = self.fetched(&recorder, matches!(outcome, Outcome::Ready(_)))?;
        let delete =
            ["delete", "pod", &name, "--namespace", place.namespace, "--grace-period=2", "--wait=true"];
        kubectl.ask_for_long(&delete)?;
        recorder.end()?;
        Ok(Round { outcome, profiles })
    }

    /// What was recorded of each container.
    fn fetched(&self, recorder: &Recorder<'_>, lives: bool) -> Result<BTreeMap<String, Profile>> {
        let mut profiles = BTreeMap::new();
        for container in &self.containers {
            match recorder.fetch(container, lives)? {
                Some(mut profile) => {
                    self.library.annotate(&mut profile);
                    profiles.insert(container.clone(), profile);
                }
                None => {
                    let said = recorder.said(container).map(|said| format!(" ({said})")).unwrap_or_default();
                    self.tell(&format!("nothing was recorded of {container}{said}"));
                }
            }
        }
        Ok(profiles)
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

    /// Makes what the manifest holds beside the workload, as far as it is not there.
    fn companions(&mut self) -> Result<()> {
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
                }
            }
        }
        Ok(())
    }

    /// A copy does not write to what a pod that runs has mounted.
    fn claims_in_use(&mut self) -> Result<()> {
        let claims = self.workload.claims();
        if claims.is_empty() {
            return Ok(());
        }
        let pods = self.kubectl.object(&["get", "pods", "--namespace", &self.namespace])?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            if ["Succeeded", "Failed"].contains(&phase) {
                continue;
            }
            for claim in claims_of(&pod["spec"]).intersection(&claims) {
                let by = pod["metadata"]["name"].as_str().unwrap_or_default();
                self.tell(&format!(
                    "pod {by} uses the claim {claim}: the copy has an empty directory in its place"
                ));
                self.without.insert(claim.clone());
            }
        }
        Ok(())
    }

    /// Whether the namespace refuses the pod as it is.
    fn is_refused(&self) -> Result<bool> {
        let copy = Copy {
            name: "nrtrace",
            namespace: &self.namespace,
            node: None,
            without: &self.without,
            away: false,
            as_root: false,
            longest: 1,
        };
        match self.kubectl.create(&self.workload.copy(&copy), &["--dry-run=server", "--output=name"]) {
            Ok(_) => Ok(false),
            Err(error) if error.says("violates PodSecurity") => {
                let claims = self.workload.claims();
                let instead = match claims.is_empty() {
                    true => String::new(),
                    false => format!(
                        "; an empty directory is in the place of {}",
                        claims.into_iter().collect::<Vec<_>>().join(", ")
                    ),
                };
                self.tell(&format!(
                    "namespace {} refuses it as it is, so it is recorded in the recorder's, with copies of its Secrets and ConfigMaps{instead}",
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
        let copy = Copy {
            name: workload.name(),
            namespace: &self.namespace,
            node: None,
            without: &self.without,
            away: false,
            as_root: false,
            longest: 1,
        };
        let mut pod = workload.copy(&copy);
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

/// What the container that failed said last.
fn last_words(kubectl: &Kubectl, (namespace, name): (&str, &str)) -> Option<String> {
    let pod = kubectl.object(&["get", "pod", name, "--namespace", namespace]).ok()?;
    let container = follow::failed_container(&pod)?;
    let said = kubectl
        .ask(&["logs", name, "--namespace", namespace, "--container", &container, "--tail=3"], None)
        .ok()?;
    let lines: Vec<&str> = said.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join(" / "))
}
