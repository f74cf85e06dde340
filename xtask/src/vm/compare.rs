//! What a kernel's run found, against what `expected.txt` says.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::guest::Outcome;

const EXPECTED: &str = include_str!("expected.txt");
/// The values of `--record`, each of which the fixture runs with.
const RECORDS: [&str; 2] = ["needs", "calls"];
/// Hooks, as `nrtrace doctor` names them.
const HOOKS: [&str; 5] = [
    "tp_btf/cap_capable",
    "fexit/cap_capable",
    "kprobe/cap_capable",
    "tp_btf/sys_exit",
    "tp_btf/task_newtask",
];
/// One of these is enough.
const ALTERNATIVES: [&str; 3] = [HOOKS[0], HOOKS[1], HOOKS[2]];

/// A row of the table: what was looked at, and how it came out under each of [`BACKENDS`].
pub struct Row {
    /// What.
    pub what: String,
    /// How; empty where it is none of the backend's business.
    pub how: [String; 2],
}

/// The values of `--backend`, each of which the fixture runs under.
pub const BACKENDS: [&str; 2] = ["ebpf", "ptrace"];

/// What the comparison found.
#[derive(Default)]
pub struct Findings {
    /// The same rows for every kernel.
    pub rows: Vec<Row>,
    /// What ought to be otherwise.
    pub differences: Vec<String>,
}

/// Requirements and the component that refused each.
type Requirements = BTreeMap<String, Option<String>>;

/// Compares all that a run left.
pub fn compare(outcome: &Outcome) -> Result<Findings> {
    let mut findings = Findings::default();
    findings.hooks(&outcome.text("doctor")?);
    for (index, backend) in BACKENDS.into_iter().enumerate() {
        let mut part = Part { backend, index, findings: &mut findings };
        let mut profiles = Vec::new();
        for record in RECORDS {
            let text = outcome.text(&format!("{backend}-{record}/profile.json"))?;
            let profile: Value = serde_json::from_str(&text)
                .with_context(|| format!("the profile of --backend {backend} --record {record}"))?;
            part.run(record, &profile);
            profiles.push((record, requirements(&profile)));
        }
        part.expected(&profiles);
    }
    findings.ordinary_user(outcome);
    findings.tests(&outcome.text("probe-tests")?);
    Ok(findings)
}

/// The findings about one backend.
struct Part<'a> {
    backend: &'static str,
    index: usize,
    findings: &'a mut Findings,
}

fn requirements(profile: &Value) -> Requirements {
    let all = profile["requirements"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    all.filter_map(|one| Some((text(&one["id"])?, text(&one["evidence"]["refused_at"])))).collect()
}

impl Findings {
    fn tell(&mut self, what: impl Into<String>, index: usize, how: impl Into<String>) {
        let (what, how) = (what.into(), how.into());
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.how[index] = how,
            None => {
                let mut row = Row { what, how: Default::default() };
                row.how[index] = how;
                self.rows.push(row);
            }
        }
    }

    /// What attaches.
    fn hooks(&mut self, doctor: &str) {
        let works = |hook: &str| {
            doctor.lines().any(|line| {
                line.trim_start()
                    .strip_prefix(hook)
                    .is_some_and(|rest| rest.trim_start().starts_with("works"))
            })
        };
        for hook in HOOKS {
            // Where one of two ways does not exist, the other one serves.
            let spare = ALTERNATIVES.contains(&hook) && ALTERNATIVES.into_iter().any(works);
            self.tell(format!("`{hook}` attaches"), 0, if works(hook) { "yes" } else { "no" });
            if !works(hook) && !spare {
                self.differences.push(format!("{hook} does not attach"));
            }
        }
    }

    /// A user without privileges finds what refuses him.
    fn ordinary_user(&mut self, outcome: &Outcome) {
        const REFUSED: &str = "path:/srv/readable";
        let profile = outcome.text("user/run/profile.json");
        let found = profile.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let good = found.is_some_and(|profile| requirements(&profile).contains_key(REFUSED));
        let what = "an ordinary user with `--enforce`, under `kernel.yama.ptrace_scope=1`";
        self.tell(what, 1, if good { "yes" } else { "**no**" });
        if !good {
            let said = outcome.text("user.out").unwrap_or_default();
            self.differences.push(format!("as an ordinary user, {REFUSED} was not found: {}", said.trim()));
        }
    }

    /// The probe's own tests.
    fn tests(&mut self, output: &str) {
        let summary = output.lines().find_map(|line| line.strip_prefix("test result: "));
        let part = |name: &str| -> Option<u32> {
            summary?.split([';', '.']).find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok())
        };
        let (passed, failed) = (part("passed").unwrap_or(0), part("failed"));
        self.tell("tests of the probe", 0, format!("{passed} passed"));
        if failed != Some(0) || passed == 0 {
            let names = output.lines().filter(|line| line.ends_with("... FAILED")).collect::<Vec<_>>();
            self.differences.push(format!("tests of the probe: {}", summary.unwrap_or("they broke off")));
            self.differences.extend(names.into_iter().map(str::to_owned));
        }
    }
}

impl Part<'_> {
    fn row(&mut self, what: impl Into<String>, good: bool) {
        self.findings.tell(what, self.index, if good { "yes" } else { "**no**" });
    }

    fn differs(&mut self, how: String) {
        self.findings.differences.push(format!("--backend {}: {how}", self.backend));
    }

    /// Whether a run went well as such.
    fn run(&mut self, record: &str, profile: &Value) {
        let run = &profile["run"];
        let wanted = [("backend", Value::from(self.backend)), ("complete", true.into()), ("lost", 0.into())];
        let whole = wanted.iter().all(|(field, wanted)| run[field] == *wanted)
            && run["unresolved"] == 0
            && run["exit"]["status"] == 0
            && profile["unexplained"] == Value::Array(Vec::new());
        self.row(format!("`--record {record}`: nothing lost, unresolved or unexplained"), whole);
        if !whole {
            self.differs(format!(
                "--record {record}: a run that is not whole: {run}, unexplained: {}",
                profile["unexplained"]
            ));
        }
    }

    /// By ptrace, the call on a kernel parameter foretells its need, and no directory is named that refuses, but the
    /// parameter itself.
    fn is_foretold(&self, id: &str, found: Option<&Option<String>>) -> bool {
        let (Some(name), Some(at)) = (id.strip_prefix("sysctl:"), found) else { return false };
        let itself = format!("/proc/sys/{}", name.replace('.', "/"));
        self.backend == "ptrace" && at.as_ref().is_none_or(|at| *at == itself)
    }

    /// The requirements, by the groups of `expected.txt`.
    fn expected(&mut self, profiles: &[(&str, Requirements)]) {
        let mut known = Vec::new();
        for group in EXPECTED.split("\n[").skip(1) {
            let (title, lines) = group.split_once("]\n").unwrap_or((group, ""));
            let mut good = true;
            for (id, refuses) in lines.lines().filter_map(|line| line.split_once(' ')) {
                let refuses = (refuses != "-").then(|| refuses.to_owned());
                known.push(id);
                for (record, found) in profiles {
                    let found = found.get(id);
                    if found == Some(&refuses) || self.is_foretold(id, found) {
                        continue;
                    }
                    good = false;
                    let instead = found.map_or_else(
                        || "it is missing".to_owned(),
                        |at| format!("found {}", at.as_deref().unwrap_or("nothing")),
                    );
                    let wanted = refuses.as_deref().unwrap_or("nothing");
                    self.differs(format!("--record {record}: {id} refused at {wanted}: {instead}"));
                }
            }
            self.row(title, good);
        }
        let mut more = Vec::new();
        for (record, found) in profiles {
            let unknown = found.keys().filter(|id| !known.contains(&id.as_str()));
            more.extend(unknown.map(|id| format!("--record {record}: {id} is no need")));
        }
        self.row("nothing else, though unaudited checks were made", more.is_empty());
        more.into_iter().for_each(|one| self.differs(one));
    }
}
