//! Where the files of a unit are, and which of them count, systemd.unit(5). Nothing is asked of systemd, which need not run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nrtrace_profiles::unit::{Host, Name, Unit};
use nrtrace_tracer::files::read_regular;

use crate::failure::BadInput;
use crate::meant::nearest;

/// Where the manager of the system looks for units, those that win first.
const TREES: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];
/// No such file is longer.
const MOST: u64 = 1 << 20;
/// The drop-in that nrtrace writes.
pub const OWN: &str = "50-nonroot.conf";
/// The drop-in that is there while the unit is recorded, read after all others.
pub const RECORDED: &str = "zz-nrtrace-record.conf";

/// A unit that was found.
#[derive(Debug)]
pub struct FoundUnit {
    /// Its own name, where it was asked for by another one.
    pub name: Name,
    /// Its file, and those of its drop-ins in the order in which they apply.
    pub files: Vec<PathBuf>,
    /// All of them.
    pub unit: Unit,
    /// The drop-in that nrtrace wrote earlier, which is not part of it.
    pub own: Option<PathBuf>,
}

/// Where units are.
pub fn trees() -> Vec<PathBuf> {
    TREES.iter().map(PathBuf::from).collect()
}

/// Finds a unit by its name, or reads the file that is named.
///
/// # Errors
/// When there is none, it is masked, or it is none of a service.
pub fn find(given: &str) -> Result<FoundUnit> {
    if !given.contains('/') {
        return find_in(&trees(), given);
    }
    let path = Path::new(given);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_installed = |tree: &&PathBuf| tree.canonicalize().ok() == parent.canonicalize().ok();
    // The file that is named, and not one that stands in for it; what goes with a unit that is not installed lies beside it.
    match trees().iter().find(is_installed) {
        Some(tree) => {
            let mut first = vec![tree.clone()];
            first.extend(trees());
            find_in(&first, &name)
        }
        None => find_in(&[parent.to_owned()], &name),
    }
}

/// Finds a unit in directories, those that win first.
///
/// # Errors
/// As [`find`].
pub fn find_in(trees: &[PathBuf], given: &str) -> Result<FoundUnit> {
    let asked = Name::parse(given).map_err(|error| BadInput(error.to_string()))?;
    let (mut name, file) = fragment(trees, &asked)?;
    if name.is_template() {
        let text = String::from_utf8_lossy(&read_regular(&file, MOST)?).into_owned();
        let unit = Unit::read([text.as_str()]);
        let Some(instance) = unit.last("Install", "DefaultInstance") else {
            let message =
                format!("{name} is a template: name an instance of it, {}@INSTANCE.service", name.prefix);
            return Err(BadInput(message).into());
        };
        name.instance = Some(instance.to_owned());
    }
    let mut names = BTreeSet::from([asked, name.clone()]);
    names.extend(aliases(trees, &name));
    let mut files = vec![file];
    let mut own = None;
    for path in drop_ins(trees, &names, &name) {
        if path.file_name().is_some_and(|name| name == OWN) {
            own = Some(path);
        } else if path.file_name().is_none_or(|name| name != RECORDED) {
            files.push(path);
        }
    }
    let texts = files.iter().map(|path| Ok(String::from_utf8_lossy(&read_regular(path, MOST)?).into_owned()));
    let texts = texts.collect::<Result<Vec<String>>>()?;
    let unit = Unit::read(texts.iter().map(String::as_str));
    Ok(FoundUnit { name, files, unit, own })
}

/// The unit's own file, and the name it has there.
fn fragment(trees: &[PathBuf], asked: &Name) -> Result<(Name, PathBuf)> {
    let forms = [Some(asked.clone()), asked.template()];
    for form in forms.iter().flatten() {
        for tree in trees {
            let path = tree.join(form.to_string());
            if path.symlink_metadata().is_err() {
                continue;
            }
            let Ok(real) = path.canonicalize() else {
                let message = format!("{asked}: {} leads nowhere", path.display());
                return Err(BadInput(message).into());
            };
            if is_nothing(&real) {
                let message =
                    format!("{asked} is masked by {}: `systemctl unmask {asked}` first", path.display());
                return Err(BadInput(message).into());
            }
            let of_file = real.file_name().and_then(|name| Name::parse(name.to_str()?).ok());
            let mut name = of_file.unwrap_or_else(|| asked.clone());
            if name.is_template() && asked.instance.is_some() {
                name.instance.clone_from(&asked.instance);
            }
            return Ok((name, real));
        }
    }
    let searched: Vec<String> = trees.iter().map(|tree| tree.display().to_string()).collect();
    let names = trees.iter().flat_map(|tree| fs::read_dir(tree).into_iter().flatten().flatten());
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let meant = nearest(&asked.to_string(), names.filter(|name| name.ends_with(".service")));
    let script = Path::new("/etc/init.d").join(&asked.prefix);
    let hint = match meant {
        Some(meant) => format!("; did you mean {meant}?"),
        None if script.is_file() => {
            format!("; {} starts it: see there for its command, and nrtrace run it", script.display())
        }
        None => String::new(),
    };
    Err(BadInput(format!("there is no {asked} in {}{hint}", searched.join(", "))).into())
}

/// Whether a file masks what it stands for.
fn is_nothing(real: &Path) -> bool {
    real.metadata()
        .is_ok_and(|facts| facts.len() == 0 && (facts.is_file() || facts.file_type().is_char_device()))
}

/// Other names of a unit: links to its file.
fn aliases(trees: &[PathBuf], name: &Name) -> Vec<Name> {
    let own = [Some(name.to_string()), name.template().map(|template| template.to_string())];
    let entries = trees.iter().flat_map(|tree| fs::read_dir(tree).into_iter().flatten().flatten());
    let links = entries.filter(|entry| {
        let target = fs::read_link(entry.path()).ok();
        let target = target.and_then(|target| Some(target.file_name()?.to_str()?.to_owned()));
        target.is_some() && own.contains(&target)
    });
    let named = links.filter_map(|link| Name::parse(link.file_name().to_str()?).ok());
    named
        .map(
            |alias| {
                if alias.is_template() { Name { instance: name.instance.clone(), ..alias } } else { alias }
            },
        )
        .collect()
}

/// The drop-ins that apply, in order: by their names, of which the first that is found stands for all.
fn drop_ins(trees: &[PathBuf], names: &BTreeSet<Name>, own: &Name) -> Vec<PathBuf> {
    // Those of the own name first, where two have the same in one tree.
    let ordered = std::iter::once(own).chain(names.iter().filter(|name| *name != own));
    let of_names = ordered.flat_map(|name| {
        let directories = name.drop_in_directories();
        trees.iter().flat_map(move |tree| {
            directories.iter().map(|directory| tree.join(directory)).collect::<Vec<_>>()
        })
    });
    let of_all = trees.iter().map(|tree| tree.join("service.d"));
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in of_names.chain(of_all) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".conf") {
                found.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    let all = found.into_values();
    all.filter(|path| path.canonicalize().is_ok_and(|real| !is_nothing(&real))).collect()
}

/// What specifiers tell of this machine.
pub fn host(file: &Path) -> Host {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Host {
        name: line("/proc/sys/kernel/hostname"),
        machine_id: line("/etc/machine-id"),
        boot_id: line("/proc/sys/kernel/random/boot_id").replace('-', ""),
        kernel: line("/proc/sys/kernel/osrelease"),
        file: file.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine with an `etc` and a `lib`, the first of which wins.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let path = machine.0.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match text.strip_prefix("-> ") {
                    Some(target) => symlink(target, path).unwrap(),
                    None => fs::write(path, text).unwrap(),
                }
            }
            machine
        }

        fn find(&self, name: &str) -> Result<FoundUnit> {
            find_in(&["etc", "lib"].map(|tree| self.0.path().join(tree)), name)
        }

        fn environment(&self, name: &str) -> String {
            self.find(name).unwrap().unit.list("Service", "Environment").join(" ")
        }
    }

    fn sets(what: &str) -> String {
        format!("[Service]\nEnvironment={what}\n")
    }

    #[test]
    fn drop_ins_apply_by_their_names_and_the_first_of_a_name_stands_for_all() {
        let machine = Machine::new(&[
            ("lib/a-b.service", &sets("unit")),
            ("lib/a-b.service.d/20-x.conf", &sets("lib20")),
            ("lib/a-b.service.d/10-x.conf", &sets("lib10")),
            ("etc/a-b.service.d/20-x.conf", &sets("etc20")),
            ("etc/a-.service.d/15-x.conf", &sets("prefix")),
            ("etc/service.d/10-x.conf", &sets("hidden")),
            ("etc/service.d/99-all.conf", &sets("all")),
            ("etc/a-b.service.d/30-x.conf", "-> /dev/null"),
            ("lib/a-b.service.d/30-x.conf", &sets("masked")),
            ("lib/a-b.service.d/40-x.txt", &sets("no")),
            ("etc/a-b.service.d/50-nonroot.conf", &sets("own")),
        ]);
        assert_eq!(machine.environment("a-b"), "unit lib10 prefix etc20 all");
        assert!(machine.find("a-b").unwrap().own.is_some());
    }

    #[test]
    fn the_first_tree_has_the_unit_and_links_are_other_names() {
        let machine = Machine::new(&[
            ("lib/x.service", &sets("lib")),
            ("etc/x.service", &sets("etc")),
            ("etc/y.service", "-> x.service"),
            ("etc/y.service.d/a.conf", &sets("alias")),
            ("etc/gone.service", "-> /dev/null"),
            ("lib/gone.service", &sets("lib")),
            ("lib/empty.service", ""),
            ("lib/broken.service", "-> nowhere.service"),
        ]);
        assert_eq!(machine.environment("x.service"), "etc alias");
        assert_eq!(machine.environment("y"), "etc alias");
        assert_eq!(machine.find("y").unwrap().name.to_string(), "x.service");
        for (name, why) in [
            ("gone", "masked"),
            ("empty", "masked"),
            ("broken", "nowhere"),
            ("none", "there is no"),
            ("x.socket", "no service"),
            ("a b", "no name"),
        ] {
            let error = machine.find(name).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn instances_come_from_templates() {
        let machine = Machine::new(&[
            ("lib/t@.service", &sets("%i")),
            ("lib/t@.service.d/a.conf", &sets("template")),
            ("etc/t@one.service.d/b.conf", &sets("instance")),
            ("etc/t@two.service", &sets("own")),
            ("lib/d@.service", "[Service]\nExecStart=/bin/a\n[Install]\nDefaultInstance=main\n"),
            ("lib/l@.service", "-> t@.service"),
        ]);
        assert_eq!(machine.environment("t@one"), "%i template instance");
        assert_eq!(machine.environment("t@two"), "own template");
        assert_eq!(machine.find("d@").unwrap().name.to_string(), "d@main.service");
        assert_eq!(machine.find("l@one").unwrap().name.to_string(), "t@one.service");
        assert!(machine.find("t@").unwrap_err().to_string().contains("INSTANCE"));
    }
}
