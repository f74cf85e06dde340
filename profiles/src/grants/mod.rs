//! From requirements to the grants that meet them.
//!
//! [`grants`] makes one plan from a profile; every emitter writes that same plan in its own syntax. The
//! rules are those of least privilege: shared directories are never made writable, ownership or a
//! group or an ACL entry meets a need for a path, and no capability stands in for one.

mod account;
mod carriers;
mod choices;
mod exec;
mod groups;
mod kernel;
mod known;
mod names;
mod obeyed;
mod open;
mod paths;
mod place;
mod reach;
mod secret;
mod tally;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::event::{Attached, Protocol};
use crate::profile::Profile;
use crate::requirement::{Limit, Need, Requirement, Severity};
use crate::text::letters;
use crate::{Capability, RawText};

pub use account::Account;
pub(crate) use account::is_account_name;
pub(crate) use carriers::{Carriers, capability_text, carriers, is_interpreter, too_many_executables};
pub use choices::{Choices, Method};
pub use exec::Executes;
pub use groups::usable_group;
pub(crate) use kernel::PORT_SYSCTL;
pub use kernel::{danger, is_never_granted};
pub use obeyed::obeyed;
pub use place::{Class, Setting, World};
pub(crate) use place::{Place, real};
pub use reach::{On, Reach, reach};

/// Everything that is to be granted, in an order that does not depend on the order of the requirements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// The name everything goes under: [`Profile::name`] made safe for file and unit names.
    pub name: String,
    /// Whom everything is granted to.
    pub account: Account,
    /// Where the program runs, and what is its own there.
    pub world: World,
    /// The option of nrtrace that names the user in another run like the profile's.
    pub user_option: &'static str,
    /// Groups the user joins, by name (or number, where a group has no name).
    pub groups: BTreeMap<String, Membership>,
    /// Directories to make or to own.
    pub directories: BTreeMap<RawText, Directory>,
    /// Files to make or to give.
    pub files: BTreeMap<RawText, File>,
    /// ACL entries for the user.
    pub acls: BTreeMap<RawText, Acl>,
    /// Ports below the first unprivileged one. What opens them is [`Grants::port_method`].
    pub ports: BTreeMap<u16, Why>,
    /// How low ports are opened on a host: by `CAP_NET_BIND_SERVICE`, which is then in [`Grants::capabilities`], by the
    /// sysctl, which is then in [`Grants::sysctls`], by a socket unit, or not at all.
    pub port_method: Method,
    /// Capabilities.
    pub capabilities: BTreeMap<Capability, CapabilityGrant>,
    /// Whether they are set on the executable file, and not ambient.
    pub on_file: bool,
    /// What programs take whose files give rights to whoever executes them.
    pub executes: Executes,
    /// Secrets that systemd hands over, by the name of the credential.
    pub credentials: BTreeMap<String, Credential>,
    /// Commands that root is to run before the start; their words are plain.
    pub before_start: Vec<(Vec<String>, Why)>,
    /// Resource limits, as the value of systemd's `Limit…=` directive; `None` is no limit.
    pub limits: BTreeMap<Limit, LimitGrant>,
    /// Nice value.
    pub nice: Option<(i64, Why)>,
    /// `oom_score_adj`.
    pub oom_score: Option<(i64, Why)>,
    /// Device nodes.
    pub devices: BTreeMap<RawText, Device>,
    /// Kernel parameters to set beforehand, by name.
    pub sysctls: BTreeMap<String, Sysctl>,
    /// Kernel modules to load beforehand, by name.
    pub modules: BTreeMap<String, Why>,
    /// Variables of the environment to set, by name.
    pub environment: BTreeMap<String, Variable>,
    /// Further directives of the unit, by name and value.
    pub directives: BTreeMap<(String, String), Why>,
    /// Options of the program's own that would do as well as what is granted, by need.
    pub known: BTreeMap<String, Vec<String>>,
    /// Set when the service manages its own control groups.
    pub delegate: Option<Why>,
    /// What to change in the program's own configuration or start.
    pub advice: Vec<Why>,
    /// Users that own today, by name, what the user is to take over: run as one of them, the program may need less.
    pub present_owners: BTreeMap<String, PresentOwner>,
    /// Capabilities that amount to much, or that the program is known to go on without: they are in no file until a
    /// trial without them has failed.
    pub withheld: Vec<Why>,
    /// Needs that are not granted because the program lives without them.
    pub optional: Vec<Why>,
    /// Needs that cannot be granted safely.
    pub unmet: Vec<Unmet>,
    /// What was preferred.
    pub choices: Choices,
}

/// Which needs a grant serves, and why it is made that way.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Why {
    /// The ids of the requirements.
    pub needs: BTreeSet<String>,
    /// One short sentence. It may hold text from the tracee: escape it for where it goes.
    pub reason: String,
}

impl Why {
    pub(crate) fn new(need: &str, reason: impl Into<String>) -> Self {
        Self { needs: BTreeSet::from([need.to_owned()]), reason: reason.into() }
    }

    /// Takes over the needs of another grant of the same thing.
    fn also(&mut self, other: Self) {
        self.needs.extend(other.needs);
    }
}

/// A need that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unmet {
    /// The id of the requirement.
    pub need: String,
    /// Why it cannot be granted.
    pub reason: String,
    /// What to do instead.
    pub hint: String,
}

impl Unmet {
    pub(crate) fn new(need: &str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { need: need.to_owned(), reason: reason.into(), hint: hint.into() }
    }
}

/// A group the user joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// The group's number on the machine of the run.
    pub gid: u32,
    /// What else the group opens, where that is worth a thought.
    pub caution: Option<&'static str>,
    /// Why.
    pub why: Why,
}

/// A directory to make or to own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Where it is.
    pub class: Class,
    /// Permission bits.
    pub mode: u32,
    /// The group it keeps; `None` for the user's own.
    pub group: Option<String>,
    /// Whether it was there during the run.
    pub existed: bool,
    /// Why.
    pub why: Why,
}

/// A file to make or to give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// What kind of file.
    pub kind: FileKind,
    /// Permission bits; `None` leaves those of the existing file alone.
    pub mode: Option<u32>,
    /// The group it keeps; `None` for the user's own, or for the present one of a given file of unknown group.
    pub group: Option<String>,
    /// Whether it was there during the run.
    pub existed: bool,
    /// Why.
    pub why: Why,
}

/// How a file comes to belong to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum FileKind {
    /// A regular file, made empty if it is not there.
    Regular,
    /// A named pipe, made if it is not there.
    Fifo,
    /// Something else that is there already and only changes its owner.
    Existing,
    /// An attribute of the kernel, which stays root's and is opened to the user's group by its mode.
    Attribute,
}

/// An ACL entry for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Acl {
    /// Read, write and execute (or search), as the permission bits 4, 2 and 1.
    pub bits: u32,
    /// What it opens that is worth a thought.
    pub caution: Option<&'static str>,
    /// Why.
    pub why: Why,
}

impl Acl {
    /// The permissions as in `setfacl`: `r--`, `rw-`, `r-x`.
    pub fn text(&self) -> String {
        letters(self.bits)
    }
}

/// A capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapabilityGrant {
    /// What it amounts to, where that is more than its name says.
    pub danger: Option<&'static str>,
    /// Why.
    pub why: Why,
}

/// A secret that systemd hands over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// The file.
    pub path: RawText,
    /// Why.
    pub why: Why,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitGrant {
    /// The limit in the unit of setrlimit(2); `None` is no limit.
    pub value: Option<u64>,
    /// Why.
    pub why: Why,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Whether it is a block device.
    pub block: bool,
    /// Read and write, as the permission bits 4 and 2.
    pub bits: u32,
    /// Why.
    pub why: Why,
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its value in a unit.
    pub value: String,
    /// Why.
    pub why: Why,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sysctl {
    /// The value written.
    pub value: String,
    /// Why.
    pub why: Why,
}

/// A user that owns something today that the program's user is to take over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PresentOwner {
    /// What changes hands.
    pub paths: BTreeSet<RawText>,
    /// The needs behind that.
    pub needs: BTreeSet<String>,
}

impl PresentOwner {
    /// A tip for the reader. It holds text from the tracee: escape it for where it goes.
    pub fn tip(&self, owner: &str, user_option: &str) -> String {
        const SHOWN: usize = 4;
        let mut paths: Vec<String> = self.paths.iter().take(SHOWN).map(RawText::to_string).collect();
        if self.paths.len() > SHOWN {
            paths.push(format!("{} more", self.paths.len() - SHOWN));
        }
        format!(
            "{owner} owns {} today: traced again with {user_option} {owner}, it needs less",
            paths.join(", ")
        )
    }
}

/// The plan for a profile. Total: what cannot be granted is in [`Grants::unmet`], so each required need is the
/// subject of a grant, of advice or of an `Unmet`.
pub fn grants(profile: &Profile) -> Grants {
    plan(profile, &Choices::default())
}

/// The plan for a profile with something else preferred than usual, or with knowledge about the program.
pub fn plan(profile: &Profile, choices: &Choices) -> Grants {
    let (account, doubt) = Account::of(&profile.identity, &profile.name);
    let world = World::of(profile, &account.user);
    let mut grants = Grants::empty(account::safe_name(&profile.name), account, world, choices.clone());
    grants.user_option = Attached::user_option(profile.run.attached.as_ref());
    let mut requirements: Vec<&Requirement> = profile.requirements.iter().collect();
    requirements.sort_by(|a, b| a.id.cmp(&b.id));
    let (required, optional): (Vec<_>, Vec<_>) = requirements
        .into_iter()
        .partition(|r| r.severity == Severity::Required || known::insists(r, profile));
    let required: Vec<&Requirement> =
        required.into_iter().filter(|r| !known::is_left_to_configuration(r, profile, choices)).collect();
    paths::plan(&required, &mut grants);
    exec::plan(&required, profile, &mut grants);
    for requirement in &required {
        if !exec::is_given(requirement, &mut grants) {
            kernel::grant(requirement, &mut grants);
        }
    }
    grants.unmet.extend(doubt);
    keep_groups(profile, &mut grants);
    open_socket_directories(profile, &mut grants);
    let (asked, optional): (Vec<_>, Vec<_>) = optional.into_iter().partition(|r| r.only_asked());
    if !asked.is_empty() {
        let needs = asked.iter().map(|requirement| requirement.id.clone()).collect();
        grants
            .optional
            .push(Why { needs, reason: "was only asked about with access(2), and nothing followed".into() });
    }
    for requirement in optional {
        grants.optional.push(Why::new(&requirement.id, optional_reason(requirement)));
    }
    if grants.account.uid == Some(0) {
        let hint = format!("run it with {} USER for a user that is not root", grants.user_option);
        grants.unmet.push(Unmet::new("identity", "the profile was made for root itself", hint));
    }
    known::apply(profile, &mut grants);
    known::give(profile, &mut grants);
    open::close_homes(profile, &mut grants);
    // What an interpreter carries, every script has.
    grants.on_file &= carriers(profile, &grants, |_| true).interpreters.is_empty();
    grants.settle();
    grants
}

/// What the user could do in the run it could do with its groups, so it keeps them.
fn keep_groups(profile: &Profile, grants: &mut Grants) {
    let mut present: BTreeSet<u32> = grants.groups.values().map(|present| present.gid).collect();
    for &gid in &profile.identity.groups {
        if gid == 0 {
            let hint = match grants.world.setting {
                Setting::Host if profile.run.attached.is_none() => "trace it again without --groups 0",
                Setting::Host => "have it started without group 0",
                Setting::Container | Setting::Pod => {
                    "start the container with a user and a group that are not root's"
                }
            };
            grants.unmet.push(Unmet::new("identity", "the run had group root", hint));
        } else if gid != grants.account.run_gid && present.insert(gid) {
            let why = Why { needs: BTreeSet::new(), reason: "the run had this group".into() };
            grants.groups.insert(gid.to_string(), Membership { gid, caution: None, why });
        }
    }
}

/// Others connect to the sockets in a directory, so they must be able to pass through it.
fn open_socket_directories(profile: &Profile, grants: &mut Grants) {
    let sockets = profile.listens.iter().filter(|listen| listen.protocol == Protocol::Unix);
    for socket in sockets {
        let directory = place::parent(&socket.address);
        if let Some(grant) = grants.directories.get_mut(&directory).filter(|grant| !grant.existed) {
            grant.mode |= 0o055;
        }
    }
}

fn optional_reason(requirement: &Requirement) -> String {
    match requirement.severity {
        Severity::Tolerated => "is refused, and the program was seen to live without it".into(),
        _ => match &requirement.need {
            Need::Path { .. } if requirement.evidence.outcomes.keys().eq(["ENOENT"]) => {
                "goes on, although the directory is not there".into()
            }
            Need::Path { .. } => {
                "was only tried: the call would have failed anyway, or the program looks elsewhere".into()
            }
            _ => "was only tried: the program goes on without it".into(),
        },
    }
}

impl Grants {
    fn empty(name: String, account: Account, world: World, choices: Choices) -> Self {
        Self {
            name,
            account,
            world,
            user_option: Attached::user_option(None),
            groups: BTreeMap::new(),
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
            acls: BTreeMap::new(),
            ports: BTreeMap::new(),
            port_method: Method::Capability,
            capabilities: BTreeMap::new(),
            on_file: choices.pick(&[Method::Capability, Method::FileCapability])
                == Some(Method::FileCapability),
            executes: Executes::default(),
            credentials: BTreeMap::new(),
            before_start: Vec::new(),
            limits: BTreeMap::new(),
            nice: None,
            oom_score: None,
            devices: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            modules: BTreeMap::new(),
            environment: BTreeMap::new(),
            directives: BTreeMap::new(),
            known: BTreeMap::new(),
            delegate: None,
            advice: Vec::new(),
            present_owners: BTreeMap::new(),
            withheld: Vec::new(),
            optional: Vec::new(),
            unmet: Vec::new(),
            choices,
        }
    }

    /// Brings what is a list into one order.
    fn settle(&mut self) {
        for list in [&mut self.advice, &mut self.withheld, &mut self.optional] {
            list.sort();
            list.dedup();
        }
        self.unmet.sort();
        self.unmet.dedup();
    }

    fn refuse(&mut self, need: &str, reason: impl Into<String>, hint: impl Into<String>) {
        self.unmet.push(Unmet::new(need, reason, hint));
    }

    fn advise(&mut self, need: &str, reason: impl Into<String>) {
        self.advice.push(Why::new(need, reason));
    }

    fn capability(&mut self, capability: Capability, danger: Option<&'static str>, why: Why) {
        let grant = self.capabilities.entry(capability).or_insert_with(|| CapabilityGrant {
            danger,
            why: Why { needs: BTreeSet::new(), ..why.clone() },
        });
        grant.why.also(why);
    }

    /// Takes back a capability that serves this need alone; false where it serves another one too, or is not granted.
    fn withhold(&mut self, need: &str, capability: Capability, because: &str) -> bool {
        let alone = |grant: &CapabilityGrant| grant.why.needs.iter().eq([need]);
        if !self.capabilities.get(&capability).is_some_and(alone) {
            return false;
        }
        self.capabilities.remove(&capability);
        let amounts = danger(capability).map(|danger| format!(" (it {danger})")).unwrap_or_default();
        let reason = format!(
            "{capability}{amounts} is withheld and may be needed: {because}; prove it with --minimize"
        );
        self.withheld.push(Why::new(need, reason));
        true
    }

    fn join(&mut self, group: &groups::Usable, why: Why) {
        let membership = self.groups.entry(group.name.clone()).or_insert_with(|| Membership {
            gid: group.gid,
            caution: group.caution,
            why: Why { needs: BTreeSet::new(), ..why.clone() },
        });
        membership.why.also(why);
    }

    fn acl(&mut self, path: &RawText, bits: u32, why: Why) {
        let acl = self.acls.entry(path.clone()).or_insert_with(|| Acl {
            bits: 0,
            caution: None,
            why: Why { needs: BTreeSet::new(), ..why.clone() },
        });
        acl.bits |= bits;
        acl.why.also(why);
    }
}
