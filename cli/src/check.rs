//! `nrtrace check`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use nrtrace_profiles::check::report::Format;
use nrtrace_profiles::check::{self, CheckResult, Input, Policy, policy};
use nrtrace_profiles::emit::Style;
use nrtrace_profiles::profile::Profile;

use crate::args::{CheckArgs, CheckFormat, Written};
use crate::failure::BadInput;
use crate::output::{Losses, Target};
use crate::{input, terminal};

/// Something was found that was not agreed on.
const FOUND: u8 = 1;
/// Where GitHub's runners take a step's summary from.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Checks a profile and writes the verdict.
pub fn check(args: &CheckArgs) -> Result<ExitCode> {
    let profile = input::profile(&args.profile)?;
    let baseline: Option<(Profile, &PathBuf)> = args
        .baseline
        .as_ref()
        .map(|path| Ok::<_, anyhow::Error>((input::profile(path)?, path)))
        .transpose()?;
    let policy = policy_of(args)?;
    let name = |path: &Path| path.display().to_string();
    let (profile_path, policy_path) = (name(&args.profile), args.policy.as_deref().map(name));
    let baseline = baseline.as_ref().map(|(profile, path)| (profile, name(path)));
    let verdict = check::check(&Input {
        profile: &profile,
        profile_path: &profile_path,
        baseline: baseline.as_ref().map(|(profile, path)| (*profile, path.as_str())),
        policy: &policy,
        policy_path: policy_path.as_deref(),
    });
    let status = if verdict.passed { ExitCode::SUCCESS } else { ExitCode::from(FOUND) };
    Ok(tell(args, &verdict).status(status))
}

/// The policy file, and what the command line adds.
fn policy_of(args: &CheckArgs) -> Result<Policy> {
    let file = match &args.policy {
        Some(path) => {
            let text = input::text(path, policy::MAX_BYTES)?;
            Policy::from_toml(&text).with_context(|| path.display().to_string())?
        }
        None => Policy::default(),
    };
    let line = Policy {
        deny_capabilities: args.deny_capability.clone(),
        deny_paths: args.deny_path.clone(),
        max_level: args.max_level.map(Into::into),
        ignore_optional: args.ignore_optional,
        allow_incomplete: args.allow_incomplete,
        accept: Vec::new(),
    };
    line.verify()?;
    let policy = file.and(line);
    let rules =
        !policy.deny_capabilities.is_empty() || !policy.deny_paths.is_empty() || policy.max_level.is_some();
    if args.baseline.is_none() && args.policy.is_none() && !rules {
        let message = "nothing to check against: give --baseline, --policy, --deny-capability, --deny-path or --max-level";
        return Err(BadInput(message.into()).into());
    }
    Ok(policy)
}

fn tell(args: &CheckArgs, verdict: &CheckResult) -> Losses {
    let mut losses = Losses::default();
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let time = time.trim_end_matches('Z');
    let style = terminal::style(args.color, &std::io::stdout());
    losses.unless(terminal::print(&format(args.format).write(verdict, style, time)));
    for Written { format: kind, path } in &args.write {
        let text = format(*kind).write(verdict, Style::Plain, time);
        losses.unless(Target::open(Some(path)).and_then(|target| target.write(&text)));
    }
    // The summary is a file that every step of a job adds to.
    let summary = std::env::var_os(STEP_SUMMARY).filter(|path| !path.is_empty());
    if let (CheckFormat::Github, Some(path)) = (args.format, summary) {
        let text = Format::Markdown.write(verdict, Style::Plain, time);
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let added = opened
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot add to {}, which {STEP_SUMMARY} names", path.display()));
        losses.unless(added);
    }
    losses
}

fn format(format: CheckFormat) -> Format {
    match format {
        CheckFormat::Text => Format::Text,
        CheckFormat::Json => Format::Json,
        CheckFormat::Sarif => Format::Sarif,
        CheckFormat::Junit => Format::Junit,
        CheckFormat::Github => Format::Github,
        CheckFormat::Markdown => Format::Markdown,
        CheckFormat::Gitlab => Format::Gitlab,
    }
}
