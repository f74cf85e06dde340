//! Starts a service as an ordinary user with given grants, and sees whether it serves.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::sandbox::{Finished, OUT, Sandbox};
use crate::truth::{Grant, Truth};

/// The identity of trials by hand: a user that exists nowhere.
const TRIAL_UID: u32 = 61_190;

/// What a service is started with.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Its user, as `setpriv --reuid` takes it.
    pub user: String,
    /// Its primary group.
    pub group: String,
    /// Its supplementary groups, by name or number.
    pub groups: Vec<String>,
    /// Its ambient capabilities; it has no others.
    pub capabilities: Vec<String>,
    /// Whether `no_new_privs` is set.
    pub no_new_privs: bool,
    /// Resource limits, as options of prlimit(1).
    pub limits: Vec<String>,
    /// Variables, `NAME=value`, besides `PATH` and `HOME`.
    pub environment: Vec<String>,
    /// Working directory; `/` unless given.
    pub directory: Option<String>,
    /// Further words put in front of the command, such as `nice`.
    pub wrapper: Vec<String>,
}

/// How a trial ended.
#[derive(Debug)]
pub enum Trial {
    /// It served, and still did after a while.
    Served,
    /// It did not.
    Failed(Box<Finished>),
}

const SERVED: i32 = 0;
/// The trial's own status for a service that does not serve; anything else is an error of the trial.
const NOT_SERVED: i32 = 77;

/// Starts the service with `grants` alone, applied with the real systemd-tmpfiles, in a fresh sandbox.
///
/// # Errors
/// When the trial itself does not work, for example when a grant cannot be applied.
pub fn try_grants(truth: &Truth, grants: &[&Grant]) -> Result<Trial> {
    let mut tmpfiles = String::new();
    let mut rights = Rights {
        user: TRIAL_UID.to_string(),
        group: TRIAL_UID.to_string(),
        no_new_privs: true,
        ..Rights::default()
    };
    for grant in grants {
        match grant {
            Grant::Tmpfiles(line) => writeln!(tmpfiles, "{}", line.replace("USER", &rights.user))?,
            Grant::Capability(name) => rights.capabilities.push(name.clone()),
            Grant::Group(name) => rights.groups.push(name.clone()),
            Grant::Advice | Grant::Nothing => {}
        }
    }
    let sandbox = Sandbox::bare()?;
    std::fs::write(sandbox.out().join("trial.conf"), tmpfiles)?;
    let advised = grants.contains(&&Grant::Advice);
    let setup = format!("systemd-tmpfiles --create {OUT}/trial.conf\n");
    start_and_exercise(&sandbox, truth, advised, &setup, &rights)
}

/// Prepares, runs `setup` (bash, as root), starts the service with `rights`, and exercises it.
///
/// # Errors
/// When a step before the start of the service fails.
pub fn start_and_exercise(
    sandbox: &Sandbox,
    truth: &Truth,
    advised: bool,
    setup: &str,
    rights: &Rights,
) -> Result<Trial> {
    let command = if advised { truth.advised_command() } else { &truth.command };
    let words: Vec<String> = rights.words().iter().chain(command).map(|word| quote(word)).collect();
    let script = format!(
        "{prepare}\n{advice}\n{setup}\n{serve}",
        prepare = truth.prepare,
        advice = if advised { truth.advice.prepare.as_str() } else { "" },
        serve = SERVE.replace("@COMMAND@", &words.join(" ")).replace("@EXERCISE@", &quote(&truth.exercise)),
    );
    let finished = sandbox.script(&script)?;
    match finished.status {
        SERVED => Ok(Trial::Served),
        NOT_SERVED => Ok(Trial::Failed(Box::new(finished))),
        _ => Err(anyhow::anyhow!("{finished}")).context("the trial did not come to an answer"),
    }
}

/// Bash that starts the service and exercises it until it serves, has ended, or ten seconds are over; then once more
/// after a while, since a service can answer first and fail then.
const SERVE: &str = r#"
    set +e
    cd /
    @COMMAND@ </dev/null &
    service=$!
    exercise() { timeout 5 bash -euo pipefail -c @EXERCISE@ >"$OUT"/exercise.log 2>&1; }
    fail() { echo "$1"; cat "$OUT"/exercise.log; exit 77; }
    for attempt in $(seq 100); do
        if exercise; then
            sleep 0.5
            kill -0 $service 2>/dev/null || { wait $service; fail "ended with status $? after it had served"; }
            exercise || fail "served no longer after half a second"
            exit 0
        fi
        kill -0 $service 2>/dev/null || { wait $service; fail "ended with status $?"; }
        sleep 0.1
    done
    fail "did not serve within ten seconds"
"#;

impl Rights {
    /// The words in front of the command.
    fn words(&self) -> Vec<String> {
        let list = |prefix: &str, items: &[String]| {
            items.iter().map(|item| format!(",+{}{item}", prefix)).collect::<String>()
        };
        let names: Vec<String> = self
            .capabilities
            .iter()
            .map(|name| name.to_lowercase().trim_start_matches("cap_").to_owned())
            .collect();
        let mut words = vec!["env".to_owned(), "-C".to_owned(), self.directory.clone().unwrap_or("/".into())];
        if !self.limits.is_empty() {
            words.push("prlimit".into());
            words.extend(self.limits.iter().cloned());
        }
        words.extend(self.wrapper.iter().cloned());
        words.extend([
            "setpriv".to_owned(),
            format!("--reuid={}", self.user),
            format!("--regid={}", self.group),
            format!("--inh-caps=-all{}", list("", &names)),
            format!("--ambient-caps=-all{}", list("", &names)),
        ]);
        words.push(if self.groups.is_empty() {
            "--clear-groups".to_owned()
        } else {
            format!("--groups={}", self.groups.join(","))
        });
        if self.no_new_privs {
            words.push("--no-new-privs".to_owned());
        }
        words.extend(
            ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/"]
                .map(str::to_owned),
        );
        words.extend(self.environment.iter().cloned());
        words
    }
}

/// A word that the shell takes literally.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
