//! Whose a path is, by where it is and who asks: what is a service's own is allowed for a reason, and all else is
//! taken to be obeyed by others.

mod obeyed;
mod secret;
mod trees;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::RawText;
use crate::interpreter::is_interpreter;
pub(crate) use crate::paths::{is_at_or_below, is_below, parent};
use crate::profile::Profile;
pub use obeyed::obeyed;
pub(crate) use secret::{Secret, is_home, secret};
pub use trees::Class;
use trees::{BASES, CODE, CONFIGURES, HOMES, LIBRARIES, OBEYED, RUNS, SHARED, TOP};

/// Whose a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A service's own: it can be given to the service's user.
    Private(Class),
    /// Many use it: objects in it can be made for the user, write access to it cannot be given.
    Shared(Class),
    /// Others execute, load or obey what is there, or it is the kernel's: nothing there is given away.
    System(&'static str),
}

/// Where the program runs: that decides which ways there are, and with whom it shares its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// On a machine that others use too.
    Host,
    /// In a container, which shares its image with nobody.
    Container,
    /// In a container of a pod.
    Pod,
}

/// Who asks for a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct World {
    /// Where the program runs.
    pub setting: Setting,
    /// The name of its user.
    user: String,
    /// Names of the program; of an interpreter, which runs anything, none.
    names: BTreeSet<String>,
    /// Names of the programs that made calls: what is a service's own is its own if it is one of them.
    services: BTreeSet<String>,
    /// Directories in which others have programs.
    #[serde(skip)]
    programs: BTreeSet<RawText>,
}

impl World {
    /// The world of a profile's program.
    pub(crate) fn of(profile: &Profile, user: &str) -> Self {
        let base = |path: &RawText| {
            String::from_utf8_lossy(path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default())
                .into_owned()
        };
        let started = profile.requirements.iter().flat_map(|need| need.evidence.executables());
        let own = RawText::from(profile.name.as_str());
        let names = profile.executable.iter().chain([&own]).filter(|path| !is_interpreter(path)).map(base);
        let setting = match &profile.container {
            Some(container) if container.pod.is_some() => Setting::Pod,
            Some(_) => Setting::Container,
            None => Setting::Host,
        };
        Self {
            setting,
            user: user.to_owned(),
            names: names.collect(),
            services: started.map(base).collect(),
            programs: profile.programs.iter().map(real).collect(),
        }
    }

    /// The machine that a container runs on, to which its program is a stranger: no name on it is the program's.
    pub(crate) fn around() -> Self {
        Self {
            setting: Setting::Host,
            user: String::new(),
            names: BTreeSet::new(),
            services: BTreeSet::new(),
            programs: BTreeSet::new(),
        }
    }

    /// Whose `path` is.
    pub(crate) fn place(&self, path: &RawText) -> Whose {
        let path = real(path);
        let bytes = path.as_bytes();
        if let Some(why) = self.obeyed(bytes) {
            return Whose::System(why);
        }
        if self.programs.contains(&path) {
            return Whose::System(RUNS);
        }
        let base = BASES.iter().find(|(base, _)| is_below(bytes, base.as_bytes()));
        let holder = parent(&path);
        if self.programs.contains(&holder) && !self.is_common(&holder) && is_run_whole(holder.as_bytes()) {
            return Whose::System(RUNS);
        }
        if SHARED.iter().any(|shared| bytes == shared.as_bytes()) {
            return Whose::Shared(base.map_or(Class::Other, |(_, class)| *class));
        }
        let Some((base, class)) = base else { return self.elsewhere(bytes) };
        let first = first_below(bytes, base);
        let named = self.is_named(first);
        let code = components(bytes.get(base.len()..).unwrap_or_default())
            .any(|part| is_in(CODE, part) || (!named && is_in(LIBRARIES, part)));
        match *base {
            _ if self.setting != Setting::Host => Whose::Private(*class),
            "/etc" if !named => Whose::System(CONFIGURES),
            "/home" if first != self.user.as_bytes() => Whose::System(HOMES),
            "/usr/local" if !named => Whose::System(RUNS),
            _ if code => Whose::System(RUNS),
            _ => Whose::Private(*class),
        }
    }

    /// What lies in no base: top-level trees, and the rest of `/var` and `/usr`.
    fn elsewhere(&self, path: &[u8]) -> Whose {
        match components(path).next() {
            None => Whose::Shared(Class::Other),
            Some(b"usr") if path != b"/usr/local" || self.setting == Setting::Host => Whose::System(RUNS),
            Some(top) if is_in(TOP, top) => Whose::Shared(Class::Other),
            Some(top) if top.starts_with(b".") => Whose::System(RUNS),
            Some(_) if components(path).any(|part| is_in(CODE, part) || is_in(LIBRARIES, part)) => {
                Whose::System(RUNS)
            }
            Some(_) => Whose::Private(Class::Other),
        }
    }

    fn obeyed(&self, path: &[u8]) -> Option<&'static str> {
        let (_, why, of) = OBEYED
            .iter()
            .find(|(trees, _, _)| trees.iter().any(|tree| is_at_or_below(path, tree.as_bytes())))?;
        let is_it =
            of.iter().any(|service| self.names.contains(*service) || self.services.contains(*service));
        (!is_it).then_some(*why)
    }

    /// Whether a name is the program's: equal, but for a version and the `d` of a daemon.
    pub(crate) fn is_named(&self, word: &[u8]) -> bool {
        self.names.iter().any(|name| is_alike(word, name.as_bytes()))
    }

    /// Whether a name is that of the user.
    pub(crate) fn is_user(&self, name: &str) -> bool {
        name == self.user
    }

    /// Whether a user's name is that of the program or of its user.
    pub(crate) fn is_own_user(&self, name: &str) -> bool {
        self.is_user(name)
            || self.is_named(name.as_bytes())
            || is_alike(name.as_bytes(), self.user.as_bytes())
    }

    /// Whether a directory is one of the system itself, which is not made for one service even where it is missing.
    pub(crate) fn is_common(&self, path: &RawText) -> bool {
        let path = real(path);
        let bytes = path.as_bytes();
        let listed = SHARED.iter().chain(BASES.iter().map(|(base, _)| base)).any(|d| d.as_bytes() == bytes);
        let top = bytes.strip_prefix(b"/").is_some_and(|rest| is_in(TOP, rest));
        listed || bytes == b"/" || top || parent(&path).as_bytes() == b"/home"
    }

    /// The class of what lies directly in a shared directory: `/run/x.pid` is of the class of `/run`.
    pub(crate) fn class_in(&self, path: &RawText) -> Class {
        match self.place(path) {
            Whose::Private(class) | Whose::Shared(class) => class,
            Whose::System(_) => Class::Other,
        }
    }
}

/// Whether a directory with programs is, by its name, one of which everything is run, as by run-parts(8): what is put
/// beside them would be, too.
fn is_run_whole(directory: &[u8]) -> bool {
    let name = directory.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    is_below(directory, b"/etc") || name.ends_with(b".d") || [&b"hooks"[..], b"scripts"].contains(&name)
}

/// Whether a path lies in the root directory itself, where files are for others to find.
pub(crate) fn is_at_root(path: &RawText) -> bool {
    parent(path).as_bytes() == b"/"
}

/// Whether two names are one but for a version, the `d` of a daemon and what follows a dash or a dot.
fn is_alike(a: &[u8], b: &[u8]) -> bool {
    fn stem(word: &[u8]) -> Vec<u8> {
        let lower = word.to_ascii_lowercase();
        let first = lower.split(|byte| !byte.is_ascii_alphanumeric()).find(|part| !part.is_empty());
        let first = first.unwrap_or_default();
        let digits = first.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let plain = first.get(..first.len() - digits).filter(|plain| !plain.is_empty()).unwrap_or(first);
        plain.strip_suffix(b"d").filter(|short| short.len() >= 3).unwrap_or(plain).to_vec()
    }
    let (a, b) = (stem(a), stem(b));
    // `postgres` and `postgresql` are one, `app` and `apparmor` are not.
    let begins = |long: &[u8], short: &[u8]| short.len() >= 6 && long.starts_with(short);
    !a.is_empty() && (a == b || begins(&a, &b) || begins(&b, &a))
}

/// Where a path really is: `/var/run` is `/run`, `/var/lock` is `/run/lock`.
pub fn real(path: &RawText) -> RawText {
    let bytes = path.as_bytes();
    for (link, target) in [(&b"/var/run"[..], &b"/run"[..]), (b"/var/lock", b"/run/lock")] {
        if let Some(rest) = bytes.strip_prefix(link).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
        {
            return RawText::new([target, rest].concat());
        }
    }
    path.clone()
}

pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

fn is_in(list: &[&str], word: &[u8]) -> bool {
    list.iter().any(|known| known.as_bytes() == word)
}

/// The component of `path` that follows its base.
pub(crate) fn own_name(path: &RawText) -> &[u8] {
    let bytes = path.as_bytes();
    let bytes = bytes.strip_prefix(b"/var/run").map_or(bytes, |_| bytes.get(4..).unwrap_or_default());
    BASES
        .iter()
        .find(|(base, _)| is_below(bytes, base.as_bytes()))
        .map_or_else(|| components(bytes).next().unwrap_or_default(), |(base, _)| first_below(bytes, base))
}

fn first_below<'a>(path: &'a [u8], base: &str) -> &'a [u8] {
    path.get(base.len() + 1..).unwrap_or_default().split(|b| *b == b'/').next().unwrap_or_default()
}
