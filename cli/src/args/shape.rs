//! What the artefacts are like.

use clap::{Args, ValueEnum};
use nrtrace_profiles::emit::Platform;
use nrtrace_profiles::grants::{Choices, Grants, Method};
use nrtrace_profiles::profile::Profile;

/// How needs are met where there are several ways.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Result")]
pub struct Preference {
    /// Meet needs this way where it can be done, most wanted first; `nrtrace report --format markdown` lists the ways
    #[arg(hide_short_help = true, long, value_enum, value_name = "METHOD", value_delimiter = ',')]
    pub prefer: Vec<MethodArg>,
}

impl Preference {
    /// What the plan is to take.
    pub fn choices(&self) -> Choices {
        let prefer = self.prefer.iter().map(|method| method.method()).collect();
        Choices { prefer, program: program(), ..Choices::default() }
    }
}

/// Where this program is, unless a shell finds it by its name.
fn program() -> Option<String> {
    let path = std::env::current_exe().ok()?;
    let search = std::env::var_os("PATH").unwrap_or_default();
    let known = |directory: std::path::PathBuf| directory.join("nrtrace").canonicalize().ok();
    let found = std::env::split_paths(&search).find_map(known);
    if found.as_ref() == Some(&path) { None } else { path.into_os_string().into_string().ok() }
}

/// What the artefacts are like.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Result")]
pub struct Shape {
    #[command(flatten)]
    pub preference: Preference,

    /// Have containers run as any user id with group 0, as OpenShift does
    #[arg(hide_short_help = true, long)]
    pub openshift: bool,
}

impl Shape {
    /// What the plan is to take.
    pub fn choices(&self) -> Choices {
        Choices { arbitrary_uid: self.openshift, ..self.preference.choices() }
    }
}

/// Which files are written, and over what.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Result")]
pub struct Files {
    /// What the files are for
    ///
    /// What the files are for [default: where the program ran: systemd on a machine, kubernetes in a pod, else container]
    #[arg(long, value_enum, value_name = "PLATFORM", value_delimiter = ',')]
    pub target: Vec<PlatformArg>,

    /// Write over files that nrtrace did not write, or that were changed since
    #[arg(hide_short_help = true, long)]
    pub force: bool,
}

impl Files {
    /// The platforms, by what is granted where none is named; what was proved as a pod's container is a pod, too.
    pub fn platforms(&self, profile: &Profile, grants: &Grants) -> Vec<Platform> {
        let mut platforms: Vec<Platform> =
            self.target.iter().flat_map(|target| target.platforms()).copied().collect();
        if platforms.is_empty() {
            platforms.push(Platform::of(grants));
            let as_pod = profile.proof.as_ref().is_some_and(|proof| proof.image.is_some());
            platforms.extend(as_pod.then_some(Platform::Kubernetes));
        }
        platforms
    }
}

/// `--target`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlatformArg {
    /// A machine: tmpfiles.d, sysusers.d, a drop-in, apply.sh
    Systemd,
    /// A cluster: a pod, and lines for its image
    Kubernetes,
    /// A container: lines for its image, and a Compose service
    Container,
    /// All of these, and a page of documentation
    All,
}

impl PlatformArg {
    fn platforms(self) -> &'static [Platform] {
        match self {
            Self::Systemd => &[Platform::Systemd],
            Self::Kubernetes => &[Platform::Kubernetes],
            Self::Container => &[Platform::Container],
            Self::All => &Platform::ALL,
        }
    }
}

/// Whether a whole unit is written; a group of its own, since `attach --unit` names one.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Result")]
pub struct Whole {
    /// Write a whole service unit as well as the drop-in
    #[arg(hide_short_help = true, long)]
    pub unit: bool,
}

/// `--prefer`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// The program's own option, variable or configuration key
    Configure,
    /// What is needed is made beforehand, and its directory stays closed
    Make,
    /// A group that has the access already
    Group,
    /// What is there changes its owner
    Own,
    /// An entry for the user in an access control list
    Acl,
    /// systemd hands secrets over (`LoadCredential=`)
    Credential,
    /// systemd listens on low ports and hands the sockets over
    Socket,
    /// Low ports are opened to all (`net.ipv4.ip_unprivileged_port_start`)
    Sysctl,
    /// Ambient capabilities
    Capability,
    /// Capabilities on the executable file
    FileCapability,
    /// systemd sets parameters and loads modules before the start (`ExecStartPre=+`)
    Manager,
}

impl MethodArg {
    fn method(self) -> Method {
        match self {
            Self::Configure => Method::Configure,
            Self::Make => Method::Make,
            Self::Group => Method::Group,
            Self::Own => Method::Own,
            Self::Acl => Method::Acl,
            Self::Credential => Method::Credential,
            Self::Socket => Method::Socket,
            Self::Sysctl => Method::Sysctl,
            Self::Capability => Method::Capability,
            Self::FileCapability => Method::FileCapability,
            Self::Manager => Method::Manager,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_that_can_be_chosen_has_its_name() {
        let names: Vec<String> = MethodArg::value_variants()
            .iter()
            .filter_map(|arg| Some(arg.to_possible_value()?.get_name().to_owned()))
            .collect();
        let known: Vec<String> = Method::CHOOSABLE.iter().map(|method| method.name()).collect();
        assert_eq!(names, known);
        assert!(
            MethodArg::value_variants().iter().zip(&known).all(|(arg, name)| arg.method().name() == *name)
        );
    }
}
