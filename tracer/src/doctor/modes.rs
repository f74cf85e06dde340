//! What works in which mode, with which backend.

/// A way to run nrtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    /// What one types for it.
    pub command: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// With eBPF.
    pub ebpf: Way,
    /// With ptrace and the access oracle.
    pub ptrace: Way,
}

/// Whether a mode works with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It does; with a remark, which may be empty.
    Works(&'static str),
    /// It lacks these: subjects of findings.
    Lacks(Vec<String>),
}

impl Mode {
    /// Whether it works with one of the backends.
    pub fn works(&self) -> bool {
        [&self.ebpf, &self.ptrace].iter().any(|way| matches!(way, Way::Works(_)))
    }
}

/// What the modes rest on.
#[derive(Clone, Debug)]
pub(super) struct Premises {
    /// A program can be started as another user, with capabilities.
    pub permissive: bool,
    /// A program can be started as another user.
    pub other_user: bool,
    /// What eBPF lacks.
    pub ebpf: Vec<String>,
    /// What ptrace lacks.
    pub ptrace: Vec<String>,
    /// The access oracle answers.
    pub oracle: bool,
}

/// Each mode.
pub(super) fn modes(facts: &Premises) -> Vec<Mode> {
    const PRIVILEGES: &str = "privileges";
    const ORACLE: &str = "access oracle";
    let way = |first: &[(bool, &str)], backend: &[String], remark| {
        let first = first.iter().filter(|(has, _)| !has).map(|(_, subject)| (*subject).to_owned());
        let lacks: Vec<String> = first.chain(backend.iter().cloned()).collect();
        if lacks.is_empty() { Way::Works(remark) } else { Way::Lacks(lacks) }
    };
    let own = if facts.other_user { "" } else { "as yourself" };
    let permissive = (facts.permissive, PRIVILEGES);
    let oracle = (facts.oracle, ORACLE);
    vec![
        Mode {
            command: "nrtrace run",
            purpose: "all needs in one run",
            ebpf: way(&[permissive], &facts.ebpf, ""),
            ptrace: way(&[permissive, oracle], &facts.ptrace, "needs are predicted"),
        },
        Mode {
            command: "nrtrace run --enforce",
            purpose: "what a user is refused",
            ebpf: way(&[], &facts.ebpf, own),
            ptrace: way(&[oracle], &facts.ptrace, own),
        },
        Mode {
            command: "nrtrace run --as-root",
            purpose: "what a run as root needs",
            ebpf: way(&[permissive, oracle], &facts.ebpf, ""),
            ptrace: way(&[permissive, oracle], &facts.ptrace, ""),
        },
        Mode {
            command: "nrtrace attach",
            purpose: "what a running program needs",
            ebpf: way(&[permissive, oracle], &facts.ebpf, ""),
            // What runs already has no filter: every call stops.
            ptrace: way(&[permissive, oracle], tracing(&facts.ptrace), "each call stops twice"),
        },
    ]
}

/// What tracing lacks when it takes no seccomp filter.
fn tracing(lacks: &[String]) -> &[String] {
    let without = lacks.first().filter(|first| *first == super::backends::PTRACE);
    if without.is_some() { &lacks[..1] } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: fn() -> Premises =
        || Premises { permissive: true, other_user: true, ebpf: vec![], ptrace: vec![], oracle: true };

    fn table(facts: &Premises) -> Vec<String> {
        let say = |way: &Way| match way {
            Way::Works(_) => "works".to_owned(),
            Way::Lacks(lacks) => lacks.join("+"),
        };
        modes(facts)
            .iter()
            .map(|mode| format!("{} {} {}", mode.command, say(&mode.ebpf), say(&mode.ptrace)))
            .collect()
    }

    #[test]
    fn with_everything_every_mode_works() {
        assert!(
            modes(&ALL())
                .iter()
                .all(|mode| matches!((&mode.ebpf, &mode.ptrace), (Way::Works(_), Way::Works(_))))
        );
    }

    #[test]
    fn an_ordinary_user_can_watch_himself_by_ptrace() {
        let facts = Premises { permissive: false, other_user: false, ebpf: vec!["CAP_BPF".into()], ..ALL() };
        assert_eq!(
            table(&facts),
            [
                "nrtrace run privileges+CAP_BPF privileges",
                "nrtrace run --enforce CAP_BPF works",
                "nrtrace run --as-root privileges+CAP_BPF privileges",
                "nrtrace attach privileges+CAP_BPF privileges",
            ]
        );
        assert_eq!(modes(&facts)[1].ptrace, Way::Works("as yourself"));
    }

    #[test]
    fn without_seccomp_filters_ptrace_can_attach_alone() {
        let facts = Premises { ptrace: vec!["seccomp filter".into()], ..ALL() };
        let table = table(&facts);
        assert_eq!(
            (&*table[0], &*table[3]),
            ("nrtrace run works seccomp filter", "nrtrace attach works works")
        );
        let facts = Premises { ptrace: vec!["ptrace".into(), "seccomp filter".into()], ..ALL() };
        assert_eq!(super::tests::table(&facts)[3], "nrtrace attach works ptrace");
    }
}
