//! What can go wrong before and around a run.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why the program could not be started or supervised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text after `--as` does not name an identity.
    #[error("{text:?} is no identity ({reason}); write USER, USER:GROUP, UID or UID:GID")]
    BadIdentity {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The identity is root's.
    #[error(
        "{text:?} is root, whom the kernel refuses nothing: a permissive run as root shows no need; name another \
         user, or leave the identity out to have a fresh one"
    )]
    RootIdentity {
        /// What was given.
        text: String,
    },
    /// No such user.
    #[error(
        "there is no user {name:?} on this machine; name an existing one, give a number (UID or UID:GID), or leave \
         the identity out to have a fresh one"
    )]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// No such group.
    #[error("there is no group {name:?} on this machine; name an existing one or give its number")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// Every uid of the range is taken.
    #[error("each uid from {first} to {last} is taken; choose one yourself as UID:GID")]
    NoFreeUid {
        /// First of the range.
        first: u32,
        /// Last of the range.
        last: u32,
    },
    /// nrtrace has not the privileges that a permissive run takes.
    #[error(
        "a permissive run starts the program as another user with capabilities, which takes root (missing here: \
         {missing}); start nrtrace with sudo, or use --enforce, which judges the program by real refusals"
    )]
    NotPrivileged {
        /// The missing capabilities, as text.
        missing: String,
    },
    /// Without privileges, nobody but the caller can be run as.
    #[error(
        "without root the program runs as {user} with its groups, whoever starts nrtrace; leave --as and --groups \
         out, or start nrtrace with sudo"
    )]
    OnlyOneself {
        /// The caller.
        user: String,
    },
    /// There is no such program.
    #[error("{name:?}: command not found{}", searched(.path))]
    CommandNotFound {
        /// The command as given.
        name: String,
        /// The directories searched, where a search was made.
        path: Option<String>,
    },
    /// The program cannot be executed.
    #[error("{} cannot be executed: {reason}", .path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A command or a variable holds a NUL byte, which no program can be given.
    #[error("{what} holds a NUL byte; take it out")]
    Nul {
        /// What holds it.
        what: &'static str,
    },
    /// The pattern for the program's log is no regular expression.
    #[error("{pattern:?} is no regular expression: {reason}")]
    BadPattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The child could not make itself ready.
    #[error("starting {subject:?} failed: {step}: {source}{}", .step.advice(*.source))]
    Child {
        /// What it was doing.
        step: Step,
        /// The program.
        subject: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// A system call of nrtrace itself failed.
    #[error("{operation} {subject}: {source}")]
    System {
        /// What was being done.
        operation: &'static str,
        /// To what.
        subject: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The limit of open files is too low.
    #[error(
        "too many open files: of the {limit} that `ulimit -n` allows, {free} are free, and nrtrace takes {wanted}; raise it \
         (ulimit -n 1024). To give the program a low limit, have a shell set it: nrtrace run -- sh -c 'ulimit -n {limit}; \
         exec PROGRAM'"
    )]
    Descriptors {
        /// The limit.
        limit: u64,
        /// How many below it are free.
        free: usize,
        /// How many must be.
        wanted: usize,
    },
    /// A user namespace does not have that id.
    #[error("the user namespace of process {pid} has no id {id}; name a user that /proc/{pid}/uid_map has")]
    NotMapped {
        /// The id.
        id: u32,
        /// The process.
        pid: i32,
    },
    /// The process that watches the program has ended.
    #[error(
        "the process that traces the program has ended, and the program with it; run again, or use --backend ebpf"
    )]
    Helper,
    /// The process that watches what was attached to has ended.
    #[error(
        "the process that traces has ended, and what it traced goes on without it; run again, or use --backend ebpf"
    )]
    Tracer,
    /// The source of records failed.
    #[error("watching the program failed: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn searched(path: &Option<String>) -> String {
    path.as_ref().map(|p| format!(" (searched {p}); give its full path")).unwrap_or_default()
}

impl Error {
    /// A failed system call of nrtrace's own.
    pub fn system(
        operation: &'static str,
        subject: impl Into<String>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::System { operation, subject: subject.into(), source: source.into() }
    }

    /// A failure of the source of records.
    pub fn source(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Source(Box::new(error))
    }

    /// The exit status this amounts to: 2 for a mistake of the user, 127 and 126 for a program that is not there or
    /// cannot be executed (as in sh(1)), 3 when nrtrace could not work.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::BadIdentity { .. }
            | Self::RootIdentity { .. }
            | Self::UnknownUser { .. }
            | Self::UnknownGroup { .. }
            | Self::BadPattern { .. }
            | Self::NotMapped { .. }
            | Self::Nul { .. } => 2,
            Self::CommandNotFound { .. } => 127,
            Self::Child { step: Step::Exec, source: Errno::ENOENT, .. } => 127,
            Self::NotExecutable { .. } | Self::Child { step: Step::Exec, .. } => 126,
            Self::NoFreeUid { .. }
            | Self::NotPrivileged { .. }
            | Self::OnlyOneself { .. }
            | Self::Child { .. }
            | Self::System { .. }
            | Self::Descriptors { .. }
            | Self::Helper
            | Self::Tracer
            | Self::Source(_) => 3,
        }
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What the child does between fork(2) and the program's first instruction.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Step {
            $($(#[$doc])* $name),*
        }

        impl Step {
            const ALL: &'static [Self] = &[$(Self::$name),*];
        }

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text),* })
            }
        }
    };
}

steps! {
    /// `seccomp`, for the ptrace backend.
    Trace = "installing the filter that stops its calls for the tracer",
    /// `write` to a file of the control group.
    ControlGroup = "joining its control group",
    /// `setns` and `unshare`.
    Namespace = "entering the namespaces of a service",
    /// `chdir`.
    Directory = "changing to its working directory",
    /// `seccomp`, for `SystemCallFilter=` and its kind.
    Calls = "installing the filters of its unit",
    /// `prctl(PR_SET_SECUREBITS)`.
    SecureBits = "setting the secure bits",
    /// `prctl(PR_CAPBSET_DROP)`.
    Bounding = "dropping capabilities from the bounding set",
    /// `prctl(PR_SET_NO_NEW_PRIVS)`.
    NoNewPrivs = "setting no_new_privs",
    /// `setgroups`.
    Groups = "setting the supplementary groups",
    /// `setresgid`.
    Gid = "setting the group id",
    /// `setresuid`.
    Uid = "setting the user id",
    /// `capset`.
    Capabilities = "setting the capabilities",
    /// `prctl(PR_CAP_AMBIENT)`.
    Ambient = "setting the ambient capabilities",
    /// `prctl(PR_SET_PDEATHSIG)`.
    ParentDeath = "tying its life to nrtrace's",
    /// `seccomp`.
    Filter = "installing the filter that answers changes of identity",
    /// `sendmsg` of the filter's listener.
    Listener = "handing over the filter's listener",
    /// `execve`.
    Exec = "executing it",
}

impl Step {
    /// The step of that number.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    fn advice(self, errno: Errno) -> &'static str {
        match (self, errno) {
            (Self::Exec, Errno::ENOENT) => " (the interpreter in its first line may be missing)",
            (Self::Exec, Errno::ENOEXEC) => " (a script without a #! line? start it by its interpreter)",
            (Self::Trace, _) => " (see nrtrace doctor; --backend ebpf does without)",
            (Self::Filter, Errno::EPERM | Errno::EACCES) => {
                " (this takes CAP_SYS_ADMIN; --identity switch does without)"
            }
            (Self::Filter, Errno::EINVAL | Errno::ENOSYS) => {
                " (this kernel lacks seccomp filters; --identity switch does without)"
            }
            (Self::SecureBits | Self::Ambient, Errno::EPERM) => {
                " (the secure bits of the calling process may be locked, see capabilities(7))"
            }
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_the_way_through_a_byte() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(*step as u8), Some(*step));
        }
        assert_eq!(Step::from_number(Step::ALL.len() as u8), None);
    }

    #[test]
    fn statuses_follow_the_shell() {
        let exec = |source| Error::Child { step: Step::Exec, subject: "x".into(), source };
        assert_eq!(exec(Errno::ENOENT).exit_status(), 127);
        assert_eq!(exec(Errno::ENOEXEC).exit_status(), 126);
        assert_eq!(Error::RootIdentity { text: "0".into() }.exit_status(), 2);
        assert_eq!(Error::NotPrivileged { missing: String::new() }.exit_status(), 3);
    }
}
