//! Arguments of `nrtrace plan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nrtrace_profiles::glob::Pattern;

use super::value;

const PLAN_EXAMPLES: &str = "\
Examples:
  # Record what each component does with the files they may share, then plan
  sudo nrtrace run --for 10s --paths /etc/ssl/private -o web/ -- /usr/sbin/nginx -g 'daemon off;'
  sudo nrtrace run --for 10s --paths /etc/ssl/private -o lb/ -- /usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg
  nrtrace plan nginx=web/profile.json haproxy=lb/profile.json

  # All files: sysusers.d, tmpfiles.d, a drop-in and a Kubernetes patch for each component, the page
  nrtrace plan --prefix kubeadm- -o plan/ etcd=etcd.json kas=kas1.json kas=kas2.json kcm=kcm.json

  # The control plane as KEP-2568 has it, with kubeadm's manifests patched
  nrtrace plan --prefix kubeadm- --public leave --manifest kas=/etc/kubernetes/manifests/kube-apiserver.yaml \\
      -o plan/ etcd=etcd.json kas=kas.json kcm=kcm.json ks=ks.json

  # What etcd can read too much today, where it runs as user etcd with group root
  nrtrace plan --today etcd=etcd:root etcd=etcd.json kas=kas.json

Exit status:
  0    done
  1    done, and there are conflicts: see the page
  2    the command line or a profile is wrong, or no ids are free";

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = PLAN_EXAMPLES)]
pub struct PlanArgs {
    /// A component and a profile of it that was recorded with `run --paths`; a component may have several
    #[arg(required = true, value_name = "NAME=PROFILE", value_parser = value::component)]
    pub profiles: Vec<(String, PathBuf)>,

    /// Arrange these files only [default: those of the profiles]
    #[arg(long, value_name = "GLOB", value_parser = value::pattern)]
    pub paths: Vec<Pattern>,

    /// What the names of users and groups begin with
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = value::prefix)]
    pub prefix: String,

    /// Ids for a component [default: free ones from SYS_UID_MIN to SYS_UID_MAX of /etc/login.defs]
    #[arg(long = "id", value_name = "NAME=UID[:GID]", value_parser = value::given_ids)]
    pub ids: Vec<(String, u32, u32)>,

    /// Whom a component runs as today, for what that grants too much [default: the user it was recorded as, root where
    /// that one was made up]
    #[arg(long, value_name = "NAME=USER[:GROUP,…]", value_parser = value::assignment)]
    pub today: Vec<(String, String)>,

    /// Make a new user also for a component that was recorded as one that exists
    #[arg(long)]
    pub new_users: bool,

    /// Who owns what one component alone reads: `component` with 0600, or `root` with 0640 and the component's own group,
    /// which keeps it from writing
    #[arg(long, value_enum, default_value_t = OwnerArg::Component)]
    pub owner: OwnerArg,

    /// What groups are made for: each `set` of components that share something, so that they are as few as possible, or
    /// each `file`
    #[arg(long, value_enum, default_value_t = GroupsArg::Set)]
    pub groups: GroupsArg,

    /// What becomes of what everybody may read today: `close` it to all but the components that use it, or `leave` it
    /// as it is, since certificates are no secrets
    #[arg(long, value_enum, default_value_t = PublicArg::Close)]
    pub public: PublicArg,

    /// The manifest of a component's (static) pod: it is written as it is to be, too, and the patch fits it
    #[arg(long = "manifest", value_name = "NAME=FILE", value_parser = value::component)]
    pub manifests: Vec<(String, PathBuf)>,

    /// What to print
    #[arg(long, value_enum, default_value_t = PlanFormat::Markdown, conflicts_with = "output")]
    pub format: PlanFormat,

    /// What the files are named after
    #[arg(long, value_name = "NAME", default_value = "plan", value_parser = value::file_name)]
    pub name: String,

    /// Write all files to this directory
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Write over files that nrtrace did not write, or that were changed since
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// `--owner`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OwnerArg {
    /// The component
    Component,
    /// Root
    Root,
}

/// `--groups`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupsArg {
    /// One for each set of components
    Set,
    /// One for each shared file
    File,
}

/// `--public`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublicArg {
    /// For nobody but the components that use it
    Close,
    /// As it is
    Leave,
}

/// `--format` of `plan`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// The page: tables, conflicts, what is granted too much today
    Markdown,
    /// sysusers.d(5)
    Sysusers,
    /// tmpfiles.d(5)
    Tmpfiles,
    /// A patch for the pod of each component
    Kubernetes,
}
