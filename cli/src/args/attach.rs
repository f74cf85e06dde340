//! Arguments of `nrtrace attach`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use nrtrace_tracer::attach::Target;
use nrtrace_tracer::attach::cgroup::unit_name;

use super::common::{Results, Watch};
use super::value;
use super::{EXIT_STATUS, MORE};
use crate::complete;

const ATTACH_EXAMPLES: &str = "\
Examples:
  # What does the running nginx need? Watch it for a minute
  sudo nrtrace attach --unit nginx --for 1m -o out/

  # A container that fails at its start: wait for it, then start it
  sudo nrtrace attach --container web --wait --for 30s -o out/ &
  podman start web

  # In production: costs nothing until something is refused
  sudo nrtrace attach --record needs --for 24h -o out/ $(pidof -s myservice)";

/// Arguments of `attach`.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = format!("{ATTACH_EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct AttachArgs {
    #[command(flatten)]
    pub aim: Aim,

    /// Wait until it runs, so that its start is seen
    #[arg(long, conflicts_with = "pid")]
    pub wait: bool,

    /// Go on when the unit is restarted
    ///
    /// Wait for the next start of the unit, also where it runs already, and go on over all that follow, until --for or a
    /// signal. Takes eBPF. Under systemd, with Type=notify, it says when it watches
    #[arg(long, requires = "unit", conflicts_with = "wait")]
    pub restarts: bool,

    /// Judge for this user [default: a fresh one]
    ///
    /// Judge for this user: a name or a number, in a container its own; with a group after a colon [default: a fresh
    /// user for processes that are root; others are judged by what they are really refused]
    #[arg(help_heading = "Program", long, value_name = "USER|UID[:GID]", add = ArgValueCompleter::new(complete::users))]
    pub target_user: Option<String>,

    /// What the files and a made-up user are named after [default: the unit, the container or the program]
    #[arg(hide_short_help = true, help_heading = "Program", long, value_name = "NAME")]
    pub name: Option<String>,

    /// Supplementary groups of that user, by name or number [default: none]
    #[arg(
        hide_short_help = true,
        help_heading = "Program",
        long,
        value_name = "GROUP",
        value_delimiter = ',',
        requires = "target_user",
        add = ArgValueCompleter::new(complete::groups)
    )]
    pub groups: Vec<String>,

    /// Stop watching after this time: 30s, 2m, 24h
    ///
    /// Stop watching after this time (like 30s, 2m or 24h); what is watched goes on
    #[arg(help_heading = "Program", long = "for", value_name = "DURATION", value_parser = value::duration)]
    pub run_for: Option<Duration>,

    #[command(flatten)]
    pub watch: Watch,

    /// Write a whole service unit as well as the drop-in
    #[arg(hide_short_help = true, help_heading = "Result", long)]
    pub whole_unit: bool,

    #[command(flatten)]
    pub results: Results,
}

/// What to attach to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Aim {
    /// A process, with all its threads and descendants
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// A systemd unit; a service without its suffix as well
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::units))]
    unit: Option<String>,

    /// A control group: a directory below /sys/fs/cgroup, or a path as in /proc/PID/cgroup
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// A container of podman, docker, containerd, CRI-O or a bare OCI runtime
    #[arg(long, value_name = "ID|NAME", add = ArgValueCompleter::new(complete::containers))]
    container: Option<String>,
}

impl Aim {
    /// What it stands for; clap sees to it that there is one.
    pub fn target(&self) -> Option<Target> {
        let Self { pid, unit, cgroup, container } = self;
        pid.map(Target::Process)
            .or_else(|| unit.as_deref().map(|unit| Target::Unit(unit_name(unit))))
            .or_else(|| cgroup.clone().map(Target::Cgroup))
            .or_else(|| container.clone().map(Target::Container))
    }
}
