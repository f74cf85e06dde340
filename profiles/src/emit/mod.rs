//! The files that grant, and the pages that explain.
//!
//! Each emitter is pure and byte-stable. Every line that grants something follows a comment that names the
//! need it serves; needs that a target cannot express are in [`Emitted::unmet`] and in the text as comments.
//! No text from the tracee reaches a file but through [`escape`].

pub mod escape;

mod answer;
mod compose;
mod containerfile;
mod doubts;
mod host;
mod html;
mod kubernetes;
mod markdown;
mod page;
mod ports;
mod remedy;
mod script;
mod setcap;
mod systemd;
mod sysusers;
pub mod table;
mod tmpfiles;
mod treatment;
mod volumes;
mod writable;

use std::collections::BTreeSet;

use crate::changes::{self, Changes};
use crate::grants::{Grants, Method};
use crate::place::Setting;
use crate::profile::Profile;
use crate::ways::grants;

pub use doubts::for_checks;
pub use kubernetes::{
    Confined, EmptyDir, LISTS, Level, PatchError, Target, confined, documents, patch, pod_path, pod_security,
};
pub use page::Emitted;
pub use remedy::{Remedy, done, remedies, verdict};
pub use systemd::hardening;
pub use table::{Style, View, example, found, pairs, table};
pub use treatment::Treatment;

/// What can be written from a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// tmpfiles.d(5): directories, files, ACLs.
    Tmpfiles,
    /// sysusers.d(5): the user and its groups.
    Sysusers,
    /// A drop-in for a systemd service unit, systemd.exec(5).
    SystemdDropIn,
    /// A whole systemd service unit, systemd.service(5).
    SystemdUnit,
    /// A socket unit for socket activation, systemd.socket(5).
    SystemdSocket,
    /// A script that sets file capabilities, for starts without systemd.
    Setcap,
    /// A Kubernetes Pod.
    Kubernetes,
    /// Lines for a Containerfile.
    Containerfile,
    /// A Compose service.
    Compose,
    /// A shell script that grants everything on a host without systemd.
    Apply,
    /// The script that takes that back.
    Undo,
    /// What is done to a host, as `nrtrace apply` reads it.
    Changes,
    /// sysctl.d(5).
    Sysctl,
    /// modules-load.d(5).
    ModulesLoad,
    /// The answer for people, without colour, its lines not broken.
    Table,
    /// A page of documentation.
    Markdown,
    /// A report to look at in a browser, in one file.
    Html,
    /// The profile itself.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 18] = [
        Self::Tmpfiles,
        Self::Sysusers,
        Self::SystemdDropIn,
        Self::SystemdUnit,
        Self::SystemdSocket,
        Self::Setcap,
        Self::Kubernetes,
        Self::Containerfile,
        Self::Compose,
        Self::Apply,
        Self::Undo,
        Self::Changes,
        Self::Sysctl,
        Self::ModulesLoad,
        Self::Table,
        Self::Markdown,
        Self::Html,
        Self::Json,
    ];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tmpfiles => "tmpfiles",
            Self::Sysusers => "sysusers",
            Self::SystemdDropIn => "drop-in",
            Self::SystemdUnit => "unit",
            Self::SystemdSocket => "socket",
            Self::Setcap => "setcap",
            Self::Kubernetes => "kubernetes",
            Self::Containerfile => "containerfile",
            Self::Compose => "compose",
            Self::Apply => "apply",
            Self::Undo => "undo",
            Self::Changes => "changes",
            Self::Sysctl => "sysctl",
            Self::ModulesLoad => "modules-load",
            Self::Table => "table",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Json => "json",
        }
    }

    /// Writes a profile in this format.
    pub fn emit(self, profile: &Profile, grants: &Grants) -> Emitted {
        match self {
            Self::Tmpfiles => tmpfiles::emit(grants),
            Self::Sysusers => sysusers::emit(grants),
            Self::SystemdDropIn => systemd::dropin(profile, grants),
            Self::SystemdUnit => systemd::unit(profile, grants),
            Self::SystemdSocket => systemd::socket(profile, grants),
            Self::Setcap => setcap::emit(profile, grants),
            Self::Kubernetes => kubernetes::emit(profile, grants),
            Self::Containerfile => containerfile::emit(profile, grants),
            Self::Compose => compose::emit(profile, grants),
            Self::Apply => script::apply(profile, grants),
            Self::Undo => script::undo(grants),
            Self::Changes => Emitted::plain(changes::FILE, Changes::of(profile, grants).to_json()),
            Self::Sysctl => host::sysctl(grants),
            Self::ModulesLoad => host::modules(grants),
            Self::Table => Emitted::plain("report.txt", table(profile, grants, &View::PLAIN)),
            Self::Markdown => markdown::emit(profile, grants),
            Self::Html => html::emit(profile, grants),
            Self::Json => Emitted::plain("profile.json", profile.to_json()),
        }
    }
}

/// What files are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    /// A machine with systemd, or another one whose services are started by scripts.
    Systemd,
    /// A cluster.
    Kubernetes,
    /// A container of its own.
    Container,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Systemd, Self::Kubernetes, Self::Container];

    /// Where a program ran is where it is to run.
    pub fn of(grants: &Grants) -> Self {
        match grants.world.setting {
            Setting::Host => Self::Systemd,
            Setting::Container => Self::Container,
            Setting::Pod => Self::Kubernetes,
        }
    }

    fn formats(self, grants: &Grants) -> Vec<Format> {
        match self {
            Self::Systemd => {
                let mut formats = vec![
                    Format::Tmpfiles,
                    Format::Sysusers,
                    Format::SystemdDropIn,
                    Format::Apply,
                    Format::Undo,
                    Format::Changes,
                ];
                let more = [
                    (Format::Setcap, !grants.capabilities.is_empty()),
                    (Format::Sysctl, !grants.sysctls.is_empty()),
                    (Format::ModulesLoad, !grants.modules.is_empty()),
                    (Format::SystemdSocket, !grants.ports.is_empty() && grants.port_method == Method::Socket),
                ];
                formats.extend(more.into_iter().filter(|(_, wanted)| *wanted).map(|(format, _)| format));
                formats
            }
            // Capabilities of a pod's container come from its image's file.
            Self::Kubernetes => vec![Format::Kubernetes, Format::Containerfile],
            Self::Container => vec![Format::Containerfile, Format::Compose],
        }
    }
}

/// The files for all platforms, by the usual plan; see [`files`].
pub fn artefacts(profile: &Profile) -> Vec<Emitted> {
    files(profile, &grants(profile), &Platform::ALL)
}

/// The files of `-o DIR` for some platforms, without the profile itself. Those that only some programs need (`setcap.sh`,
/// `sysctl.d`, `modules-load.d`, a socket unit) are left out when they would be empty, a whole unit is for those who ask,
/// and the page of documentation comes where all is wanted.
pub fn files(profile: &Profile, grants: &Grants, platforms: &[Platform]) -> Vec<Emitted> {
    let mut formats: BTreeSet<Format> =
        platforms.iter().flat_map(|platform| platform.formats(grants)).collect();
    formats.insert(Format::Html);
    if Platform::ALL.iter().all(|platform| platforms.contains(platform)) {
        formats.insert(Format::Markdown);
    }
    formats.into_iter().map(|format| format.emit(profile, grants)).collect()
}
