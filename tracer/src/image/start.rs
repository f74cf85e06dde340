//! How a container is started: its volumes, its image, and the words for podman.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nrtrace_profiles::emit::Format;
use nrtrace_profiles::event::Exit;
use nrtrace_profiles::ways::plan;

use super::inspect::quoted;
use super::trial::{Outcome, Rights, START, Trial, ended};
use super::{Error, LABEL, options};
use crate::course::{Course, Failure, Verdict};

impl Trial<'_> {
    /// Options of podman's client that every container has, of those that there are.
    fn client(&self, name: &str) -> Vec<String> {
        let course = &self.request.course;
        let whole =
            START + course.ready_timeout + course.exercise_timeout + course.settle + self.request.grace * 4;
        let all = [
            ("pull", "never".to_owned()),
            ("image-volume", "ignore".into()),
            ("systemd", "false".into()),
            ("sdnotify", "ignore".into()),
            ("passwd", (self.is_recorded() && self.image.as_built.load(Ordering::Relaxed)).to_string()),
            ("no-healthcheck", "true".into()),
            // Ends it where nobody is left to end it.
            ("timeout", whole.as_secs().to_string()),
        ];
        let known = all.into_iter().filter(|(option, _)| self.image.known.has(option));
        let named = [format!("--name={name}"), format!("--label={LABEL}")].into_iter();
        named.chain(known.map(|(option, value)| format!("--{option}={value}"))).collect()
    }

    /// The words that start it, with its volumes made; or what became of what prepares these.
    pub(super) fn words(&mut self) -> Result<Result<Vec<String>, Outcome>, Error> {
        let (spec, group) = (&self.image.spec, self.group());
        let mut words = vec!["run".to_owned()];
        words.extend(self.client(&self.name));
        words.push(format!("--pidfile={}", self.pidfile().display()));
        words.extend(spec.kept.iter().cloned());
        words.extend(spec.environment.iter().map(|(name, value)| format!("--env={name}={value}")));
        for volume in &spec.volumes {
            words.push(self.volumes.given(volume, &spec.podman, group)?);
        }
        let mut image = self.image.inspected.id.clone();
        match (&self.confined, self.request.rights) {
            (Some(confined), Rights::Granted(profile, choices)) => {
                if confined.changes_image || self.image.as_built.load(Ordering::Relaxed) {
                    let lines = Format::Containerfile.emit(profile, &plan(profile, choices)).text;
                    match self.image.with(&lines) {
                        Ok(tag) => image = tag,
                        Err(error) => return Ok(Err(unbuilt(&error))),
                    }
                }
                words.extend(options::confining(confined));
                for (path, volume) in &confined.volumes {
                    let at = self.volumes.empty(group)?;
                    if let Some(script) = volume.prepare
                        && let Some(failed) = self.prepare(&image, path, &at, script)?
                    {
                        return Ok(Err(failed));
                    }
                    let at = volume.sub_path.map_or_else(|| at.clone(), |part| at.join(part));
                    words.push(format!("--volume={}:{path}", at.display()));
                }
            }
            (_, Rights::Recorded(user)) => words.extend(options::permissive(user)),
            (None, Rights::Granted(..)) => {}
        }
        let (program, arguments) =
            self.command.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        words.extend([format!("--entrypoint={}", serde_json::json!([program])), image]);
        words.extend(arguments.iter().cloned());
        Ok(Ok(words))
    }

    fn is_recorded(&self) -> bool {
        matches!(self.request.rights, Rights::Recorded(_))
    }

    /// Whose its volumes are.
    fn group(&self) -> Option<u32> {
        match (&self.confined, self.request.rights) {
            (Some(confined), _) => confined.fs_group,
            (None, Rights::Recorded((_, gid))) => Some(gid),
            (None, Rights::Granted(..)) => None,
        }
    }

    pub(super) fn pidfile(&self) -> PathBuf {
        self.image.directory.join(format!("{}.pid", self.name))
    }

    /// Runs the init container of a volume; what became of it if it fails.
    fn prepare(&self, image: &str, path: &str, at: &Path, script: &str) -> Result<Option<Outcome>, Error> {
        let Some(confined) = &self.confined else { return Ok(None) };
        let begun = Instant::now();
        let (uid, gid) = confined.user;
        let target = format!("/nrtrace/{}", at.file_name().unwrap_or_default().display());
        let mut words = vec!["run".to_owned(), "--rm".into(), "--network=none".into()];
        words.extend(self.client(&format!("{}-prepare", self.name)));
        // What the engine is told of its limits and groups holds for this container, too.
        words.extend(self.image.spec.kept.iter().filter(|option| is_engines(option)).cloned());
        words.extend([
            format!("--user={uid}:{gid}"),
            "--read-only".into(),
            "--read-only-tmpfs=false".into(),
            "--cap-drop=all".into(),
            "--security-opt=no-new-privileges".into(),
            format!("--volume={}:{target}", at.display()),
            "--entrypoint=/bin/sh".into(),
            image.to_owned(),
            "-euc".into(),
            script.to_owned(),
            "sh".into(),
            path.to_owned(),
            target,
        ]);
        let output = self.image.spec.podman.command(&words).output();
        let output = output.map_err(|error| Error::Podman { what: "run".into(), said: error.to_string() })?;
        if output.status.success() {
            return Ok(None);
        }
        let end = ended(output.status);
        let after = begun.elapsed();
        let failure = Failure::Ended { exit: end.into(), after, was_ready: None };
        let said = String::from_utf8_lossy(&output.stderr);
        let said = format!("what copies {path} of the image into its volume: {}", said.trim_end());
        Ok(Some(Outcome {
            end: Some(end),
            after,
            verdict: Verdict::Failed(failure),
            output: said.into_bytes(),
        }))
    }

    /// The course, with its commands run in the container.
    pub(super) fn course(&self) -> Course {
        let mut course = self.request.course.clone();
        let client =
            self.image.spec.podman.words().iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let inside = |text: &OsString| {
            let text = quoted(&text.to_string_lossy());
            OsString::from(format!("exec {client} exec {} /bin/sh -c {text}", quoted(&self.name)))
        };
        course.readiness.command = course.readiness.command.as_ref().map(inside);
        course.exercise = course.exercise.as_ref().map(inside);
        course
    }
}

/// A container of which there is no image.
fn unbuilt(error: &Error) -> Outcome {
    let failure = Failure::Ended { exit: Exit::Exited { status: 1 }, after: Duration::ZERO, was_ready: None };
    let said = format!("no image with the lines of Containerfile: {error}");
    Outcome { end: None, after: Duration::ZERO, verdict: Verdict::Failed(failure), output: said.into_bytes() }
}

/// Options about the engine and its limits, and not about the program.
fn is_engines(option: &str) -> bool {
    ["--cgroups", "--cgroupns", "--ulimit", "--security-opt", "--uidmap", "--gidmap"]
        .iter()
        .any(|name| option.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_for_what_prepares_a_volume_too() {
        assert!(is_engines("--ulimit=nofile=9:9") && is_engines("--cgroups=disabled"));
        assert!(!is_engines("--network=none") && !is_engines("--ulimits=x"));
    }
}
