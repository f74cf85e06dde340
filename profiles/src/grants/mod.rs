//! What is granted: for each need one of the ways to meet it, and the pieces that come of it.
//!
//! `ways::plan` makes one from a profile; every emitter writes that same one in its own syntax. There is one list of
//! ways for each need, [`Grants::ways`], in which those that are taken are marked: tables, explanations and artefacts
//! are read from it, so that they cannot say different things.

mod account;
mod act;
mod beyond;
mod carriers;
mod choices;
mod grade;
mod parts;
mod reach;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use crate::edit::Edit;
use crate::event::Attached;
use crate::place::World;
use crate::profile::Profile;
use crate::requirement::Limit;
use crate::{Capability, RawText};

pub use crate::method::Method;
pub use account::Account;
pub(crate) use account::{is_account_name, safe_name};
pub(crate) use act::Refusal;
pub use act::{Act, Way};
pub(crate) use beyond::BEYOND;
pub use beyond::reach;
pub(crate) use carriers::{Carriers, capability_text, carriers, too_many_executables};
pub use choices::Choices;
pub use grade::{Grade, On, Reach};
pub(crate) use parts::PORT_SYSCTL;
use parts::Piece;
pub use parts::{
    Acl, CapabilityGrant, Credential, Device, Directory, Executes, File, FileKind, LimitGrant, Membership,
    PresentOwner, Shipped, Sysctl, Variable,
};
use reach::Used;
pub use why::{Unmet, Why};

/// Everything that is to be granted, in an order that does not depend on the order of the requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What is changed in the program's own configuration, as trials showed it to be of use.
    pub edits: BTreeMap<Edit, Why>,
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
    /// What packages' tmpfiles.d files make on the machine that the files are written for, where that is known.
    pub shipped: BTreeMap<RawText, Shipped>,
    /// The ways to meet each need, by its id, least first; what is taken of them is what all else here holds.
    pub ways: BTreeMap<String, Vec<Way>>,
    /// What was preferred.
    pub choices: Choices,
    /// What the program did, which no way opens anew.
    pub(crate) used: Used,
}

/// Puts a piece where those of its kind are; where one is already, that one serves both.
fn put<K: Ord, P: Piece>(map: &mut BTreeMap<K, P>, key: K, mut piece: P, why: Why) {
    *piece.why() = why;
    match map.get_mut(&key) {
        Some(present) => {
            present.widen(&piece);
            present.why().also(std::mem::take(piece.why()));
        }
        None => {
            map.insert(key, piece);
        }
    }
}

/// The same for what there is only one of.
fn put_one<V>(place: &mut Option<(V, Why)>, value: V, why: Why) {
    match place {
        Some((_, present)) => present.also(why),
        None => *place = Some((value, why)),
    }
}

impl Grants {
    /// Nothing is granted yet.
    pub(crate) fn empty(profile: &Profile, account: Account, world: World, choices: Choices) -> Self {
        let used = Used::by(profile, &world);
        Self {
            name: safe_name(&profile.name),
            account,
            world,
            user_option: Attached::user_option(profile.run.attached.as_ref()),
            groups: BTreeMap::new(),
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
            acls: BTreeMap::new(),
            ports: BTreeMap::new(),
            port_method: Method::Capability,
            capabilities: BTreeMap::new(),
            on_file: choices.pick(None, &[Method::Capability, Method::FileCapability])
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
            edits: BTreeMap::new(),
            delegate: None,
            advice: Vec::new(),
            present_owners: BTreeMap::new(),
            withheld: Vec::new(),
            optional: Vec::new(),
            unmet: Vec::new(),
            shipped: BTreeMap::new(),
            ways: BTreeMap::new(),
            choices,
            used,
        }
    }

    /// Takes one of the ways for these needs: the one that trials chose, the most wanted, else the first that opens no
    /// more than what is the service's; the others are kept for who wants to choose.
    pub(crate) fn choose<'n>(
        &mut self,
        needs: impl IntoIterator<Item = &'n str>,
        tried: Option<Method>,
        ways: impl IntoIterator<Item = Way>,
    ) -> Option<Method> {
        let mut ways: Vec<Way> = ways.into_iter().collect();
        for way in &mut ways {
            way.reach = reach::of(&way.act, &self.used);
        }
        ways.sort_by_key(Way::opens_much);
        let methods: Vec<Method> = ways.iter().filter_map(|way| way.act.method()).collect();
        let method = self.choices.pick(tried, &methods);
        if let Some(taken) = ways.iter_mut().find(|way| way.act.method() == method) {
            taken.chosen = true;
        }
        for need in needs {
            for way in &ways {
                if way.chosen {
                    self.put(&way.act, Why::new(need, way.because.clone()));
                }
                self.note(need, way.clone());
            }
        }
        method
    }

    /// Takes a way that has no other beside it.
    pub(crate) fn take(&mut self, need: &str, way: Way) {
        self.choose([need], None, [way]);
    }

    /// Keeps ways that are not taken.
    pub(crate) fn offer(&mut self, need: &str, ways: impl IntoIterator<Item = Way>) {
        for way in ways {
            let reach = reach::of(&way.act, &self.used);
            self.note(need, Way { reach, ..way });
        }
    }

    /// A way is told once; whoever takes it later has taken it.
    fn note(&mut self, need: &str, way: Way) {
        let ways = self.ways.entry(need.to_owned()).or_default();
        let is_it =
            |known: &&mut Way| known.act == way.act && (way.act.is_piece() || known.because == way.because);
        match ways.iter_mut().find(is_it) {
            Some(known) => known.chosen |= way.chosen,
            None => ways.push(way),
        }
    }

    /// Whether a need is refused.
    pub(crate) fn is_refused(&self, need: &str) -> bool {
        let refuses = |way: &Way| way.chosen && matches!(way.act, Act::Refuse(_));
        self.ways.get(need).is_some_and(|ways| ways.iter().any(refuses))
    }

    /// Takes back those ways of a need that `lost` names, and takes `instead`.
    pub(crate) fn replace(&mut self, need: &str, lost: impl Fn(&Act) -> bool, instead: Way) {
        for way in self.ways.entry(need.to_owned()).or_default().iter_mut().filter(|way| lost(&way.act)) {
            way.chosen = false;
        }
        self.take(need, instead);
    }

    /// How many things are granted.
    pub fn count(&self) -> usize {
        let ports = if self.port_method == Method::Socket { self.ports.len() } else { 0 };
        let files = self.directories.len() + self.files.len() + self.acls.len() + self.devices.len();
        let rights =
            self.groups.len() + self.capabilities.len() + self.kept().count() + self.executes.gains.len();
        let machine = self.sysctls.len() + self.modules.len() + self.before_start.len() + ports;
        let one = |is_there: bool| usize::from(is_there);
        let unit = self.limits.len()
            + self.credentials.len()
            + self.environment.len()
            + self.directives.len()
            + self.edits.len();
        let single = one(self.nice.is_some()) + one(self.oom_score.is_some()) + one(self.delegate.is_some());
        files + rights + machine + unit + single
    }

    /// All that is changed in the program's own configuration, by whomever.
    pub(crate) fn to_configure(&self) -> impl Iterator<Item = &Why> {
        self.edits.values().chain(&self.advice)
    }

    /// Whether processes of the service may gain what the files of programs give: no `NoNewPrivileges=`, nor anything that
    /// brings it along.
    pub fn may_gain(&self) -> bool {
        !self.executes.gains.is_empty() || (self.on_file && !self.capabilities.is_empty())
    }

    /// Capabilities that are in the bounding set and the service has not got itself.
    pub fn kept(&self) -> impl Iterator<Item = (Capability, &Why)> {
        let kept = self.executes.kept.iter().map(|(capability, why)| (*capability, why));
        kept.filter(|(capability, _)| !self.capabilities.contains_key(capability))
    }

    /// Puts the piece of a way that is taken where its kind is.
    fn put(&mut self, act: &Act, why: Why) {
        match act.clone() {
            Act::Directory(path, directory) => put(&mut self.directories, path, directory, why),
            Act::File(path, file) => put(&mut self.files, path, file, why),
            Act::Acl(path, acl) => put(&mut self.acls, path, acl, why),
            Act::Join(group, membership) => put(&mut self.groups, group, membership, why),
            Act::Capability(capability, grant) | Act::FileCapability(capability, grant) => {
                put(&mut self.capabilities, capability, grant, why);
            }
            Act::Bound(capability) => put(&mut self.executes.kept, capability, Why::default(), why),
            Act::Gain => self.executes.gains.push(why),
            Act::Credential(name, credential) => put(&mut self.credentials, name, credential, why),
            Act::Device(path, device) => put(&mut self.devices, path, device, why),
            Act::Sysctl(name, sysctl) => put(&mut self.sysctls, name, sysctl, why),
            Act::Module(name) => put(&mut self.modules, name, Why::default(), why),
            Act::Before(words) => self.before_start.push((words, why)),
            Act::Limit(limit, grant) => put(&mut self.limits, limit, grant, why),
            Act::Nice(value) => put_one(&mut self.nice, value, why),
            Act::OomScore(value) => put_one(&mut self.oom_score, value, why),
            Act::Variable(name, variable) => put(&mut self.environment, name, variable, why),
            Act::Directive(name, value) => put(&mut self.directives, (name, value), Why::default(), why),
            Act::Edit(edit) => put(&mut self.edits, edit, Why::default(), why),
            Act::Delegate => match &mut self.delegate {
                Some(present) => present.also(why),
                None => self.delegate = Some(why),
            },
            // These are lists, made when all is chosen.
            Act::Listen(_) | Act::Setting | Act::Withhold(_) | Act::Nothing | Act::Refuse(_) => {}
        }
    }

    /// Makes the lists of what no piece stands for, in one order.
    pub(crate) fn settle(&mut self) {
        let (mut advice, mut withheld, mut optional) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (need, ways) in &self.ways {
            for way in ways.iter().filter(|way| way.chosen) {
                let list: &mut BTreeMap<&String, BTreeSet<String>> = match &way.act {
                    Act::Setting => &mut advice,
                    Act::Withhold(_) => &mut withheld,
                    Act::Nothing => &mut optional,
                    Act::Refuse(hint) => {
                        self.unmet.push(Unmet::new(need, &way.because, hint));
                        continue;
                    }
                    _ => continue,
                };
                list.entry(&way.because).or_default().insert(need.clone());
            }
        }
        let list = |by_reason: BTreeMap<&String, BTreeSet<String>>| {
            by_reason.into_iter().map(|(reason, needs)| Why { needs, reason: reason.clone() }).collect()
        };
        (self.advice, self.withheld, self.optional) = (list(advice), list(withheld), list(optional));
        self.unmet.sort();
        self.unmet.dedup();
    }
}
