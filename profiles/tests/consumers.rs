//! The files that are written, given to the programs that read them: systemd-sysusers, systemd-tmpfiles,
//! systemd-analyze, the shell, setcap. They have to be installed, and the tests have to run as root: what is
//! missing is a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};

use nrtrace_profiles::emit::{Emitted, Format, artefacts};
use nrtrace_profiles::event::{FileType, Inode};
use nrtrace_profiles::grants::{Choices, Grants};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Access, Need};
use nrtrace_profiles::ways::{grants, plan};
use nrtrace_profiles::{Capability, RawText};
use samples::{HOSTILE, hostile};
use tempfile::TempDir;

/// Runs a program that has to be there.
fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}; is it installed?"))
}

/// Runs a program that has to succeed and to complain about nothing.
fn quietly(command: &mut Command) -> Output {
    let output = run(command);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{command:?}: {}\n{complaint}", output.status);
    output
}

/// A root directory as a machine has it before anything is applied.
struct Root {
    directory: TempDir,
}

impl Root {
    fn of(profile: &Profile) -> Self {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = Self { directory };
        let (mut users, mut groups) = (BTreeMap::from([("root", 0)]), BTreeMap::from([("root", 0)]));
        for requirement in &profile.requirements {
            if let Need::Path { path, .. } | Need::Device { path, .. } = &requirement.need {
                fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            }
            if let (Some(at), Some(inode)) =
                (&requirement.evidence.refused_at, &requirement.evidence.refused_inode)
            {
                root.make(at, inode);
                users.insert(inode.user.as_deref().unwrap(), inode.uid);
                groups.insert(inode.group.as_deref().unwrap(), inode.gid);
            }
        }
        let passwd: String =
            users.iter().map(|(name, id)| format!("{name}:x:{id}:{id}::/:/bin/sh\n")).collect();
        let group: String = groups.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
        root.write("etc/passwd", &passwd);
        root.write("etc/group", &group);
        root
    }

    fn at(&self, path: &RawText) -> PathBuf {
        let relative = path.as_bytes().strip_prefix(b"/").unwrap();
        self.directory.path().join(OsStr::from_bytes(relative))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn make(&self, path: &RawText, inode: &Inode) {
        let target = self.at(path);
        if inode.file_type == FileType::Directory {
            fs::create_dir_all(&target).unwrap();
        } else {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(&target, "content").unwrap();
        }
        chown(&target, Some(inode.uid), Some(inode.gid)).expect("these tests run as root");
        fs::set_permissions(&target, fs::Permissions::from_mode(inode.mode)).unwrap();
    }

    /// Applies users and files as an administrator would.
    fn apply(&self, emitted: &[Emitted]) {
        for file in emitted.iter().filter(|file| file.file_name.ends_with(".conf")) {
            self.write(&format!("etc/{}", file.file_name), &file.text);
        }
        let root = format!("--root={}", self.directory.path().display());
        // systemd-sysusers tells on standard error whom it makes.
        let users = run(Command::new("systemd-sysusers").arg(&root));
        assert!(users.status.success(), "{}", String::from_utf8_lossy(&users.stderr));
        quietly(Command::new("systemd-tmpfiles").args(["--create", &root]));
    }

    /// Every path there is.
    fn everything(&self) -> BTreeSet<PathBuf> {
        let listed = quietly(Command::new("find").arg(self.directory.path()).arg("-print0"));
        listed.stdout.split(|byte| *byte == 0).map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
    }

    fn id(&self, table: &str, name: &str) -> u32 {
        let text = fs::read_to_string(self.directory.path().join("etc").join(table)).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).expect(name);
        line.split(':').nth(2).unwrap().parse().unwrap()
    }
}

/// As `profile`, for a user that exists on this machine: ACL entries name users of the machine that applies them.
fn as_daemon(mut profile: Profile) -> Profile {
    profile.identity.user = "daemon".into();
    profile.identity.group = "daemon".into();
    profile.identity.exists = true;
    (profile.identity.uid, profile.identity.gid) = (1, 1);
    profile
}

fn check_owners(root: &Root, plan: &Grants) {
    let user = root.id("passwd", &plan.account.user);
    let group = |name: &Option<String>| root.id("group", name.as_ref().unwrap_or(&plan.account.group));
    for (path, directory) in &plan.directories {
        let facts = fs::symlink_metadata(root.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(facts.is_dir(), "{path}");
        let expected = (user, group(&directory.group), directory.mode);
        assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), expected, "{path}");
    }
    for (path, file) in &plan.files {
        let facts = fs::symlink_metadata(root.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((facts.uid(), Some(facts.mode() & 0o7777)), (user, file.mode), "{path}");
    }
    for (path, acl) in &plan.acls {
        let listed = quietly(Command::new("getfacl").args(["-n", "-c", "-p"]).arg(root.at(path)));
        let entry = format!("user:{user}:{}", acl.text());
        assert!(String::from_utf8_lossy(&listed.stdout).contains(&entry), "{path}: {entry}");
    }
}

/// What each access does, as a shell command on `$1`.
fn attempt(file_type: FileType, access: Access) -> &'static str {
    match (file_type, access) {
        (FileType::Directory, Access::Create) => "[ -d \"$1\" ] && : > \"$1/probe\" || mkdir \"$1\"",
        (FileType::Directory, Access::Write) => ": > \"$1/probe\" && rm \"$1/probe\"",
        (FileType::Directory, Access::Read) => "ls \"$1\"",
        (FileType::Directory, Access::Search) => "cd \"$1\"",
        (_, Access::Create | Access::Write | Access::Append) => ": >> \"$1\"",
        (_, Access::Own) => "chmod u+w \"$1\"",
        (_, Access::Read) => "cat \"$1\"",
        (_, Access::Execute | Access::Search) => "[ -x \"$1\" ]",
        (_, Access::Delete) => "true",
    }
}

/// Does everything the profile says the program does, as the user and with its groups alone.
fn check_accesses(root: &Root, profile: &Profile, plan: &Grants) {
    let user = root.id("passwd", &plan.account.user);
    let group = root.id("group", &plan.account.group);
    let members = fs::read_to_string(root.directory.path().join("etc/group")).unwrap();
    let joined: Vec<String> = members
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields[3].split(',').any(|member| member == plan.account.user))
        .map(|fields| fields[2].to_owned())
        .collect();
    assert_eq!(joined.len(), plan.groups.len());
    let groups =
        if joined.is_empty() { "--clear-groups".into() } else { format!("--groups={}", joined.join(",")) };
    let refused = |id: &str| {
        plan.unmet.iter().any(|unmet| unmet.need == id)
            || plan.optional.iter().any(|why| why.needs.contains(id))
    };
    for requirement in profile.requirements.iter().filter(|requirement| !refused(&requirement.id)) {
        let Need::Path { path, file_type, access, .. } = &requirement.need else {
            continue;
        };
        for access in access {
            quietly(
                Command::new("setpriv")
                    .args([&format!("--reuid={user}"), &format!("--regid={group}"), &groups])
                    .args([
                        "--inh-caps=-all",
                        "--bounding-set=-all",
                        "sh",
                        "-c",
                        attempt(*file_type, *access),
                        "sh",
                    ])
                    .arg(root.at(path))
                    .current_dir("/"),
            );
        }
    }
}

fn apply_and_check(profile: &Profile) {
    let plan = grants(profile);
    let root = Root::of(profile);
    root.apply(&artefacts(profile));
    check_owners(&root, &plan);
    check_accesses(&root, profile, &plan);
    // A second start of the machine finds everything in place.
    root.apply(&artefacts(profile));
    check_owners(&root, &plan);
}

#[test]
fn a_fresh_user_can_do_what_its_profile_says_and_the_files_apply_twice() {
    for profile in samples::all() {
        if grants(&profile).acls.is_empty() {
            apply_and_check(&profile);
        }
    }
}

#[test]
fn a_user_that_exists_can_do_what_its_profile_says() {
    for profile in samples::all() {
        apply_and_check(&as_daemon(profile));
    }
}

#[test]
fn hostile_names_make_exactly_the_files_they_name() {
    for name in HOSTILE {
        let profile = as_daemon(hostile(name));
        let plan = grants(&profile);
        let root = Root::of(&profile);
        // Devices are files here: nodes are not made for a test.
        for path in plan.acls.keys().filter(|path| path.as_bytes().starts_with(b"/dev/")) {
            fs::write(root.at(path), "").unwrap();
        }
        let before = root.everything();
        let emitted = artefacts(&profile);
        root.apply(&emitted);
        let mut made: BTreeSet<PathBuf> = root.everything().difference(&before).cloned().collect();
        made.retain(|path| !path.starts_with(root.directory.path().join("etc")));
        let mut expected = BTreeSet::new();
        if emitted[0].unmet.is_empty() {
            check_owners(&root, &plan);
            let files = plan.files.iter().filter(|(_, file)| !file.existed).map(|(path, _)| path);
            expected.extend(plan.directories.keys().chain(files).map(|path| root.at(path)));
        }
        expected.retain(|path: &PathBuf| !before.contains(path));
        assert_eq!(made, expected);
        assert!(!root.directory.path().join("etc/owned").exists());
    }
}

/// A service with the drop-in, checked by systemd.
fn verify(profile: &Profile, more: &str) -> Output {
    let directory = TempDir::new().unwrap();
    let emitted = Format::SystemdDropIn.emit(profile, &grants(profile));
    let unit = directory.path().join(emitted.file_name.split_once(".d/").unwrap().0);
    fs::write(&unit, "[Unit]\nDescription=Sample\n[Service]\nExecStart=/bin/true\n").unwrap();
    let dropin = directory.path().join(&emitted.file_name);
    fs::create_dir_all(dropin.parent().unwrap()).unwrap();
    fs::write(dropin, format!("{}{more}", emitted.text)).unwrap();
    run(Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit))
}

#[test]
fn systemd_accepts_the_drop_in() {
    let hostile = HOSTILE.iter().map(|name| hostile(name));
    for profile in samples::all().into_iter().chain(hostile) {
        let output = verify(&profile, "");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", profile.name);
    }
}

#[test]
fn systemd_does_read_the_drop_in() {
    let output = verify(&samples::nginx(), "[Service]\nNonsense=1\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Nonsense"));
}

#[test]
fn the_shell_reads_the_scripts_and_finds_nrtrace_by_any_name() {
    for name in HOSTILE {
        let directory = TempDir::new().unwrap();
        let slashless: Vec<u8> = name.iter().map(|byte| if *byte == b'/' { b'_' } else { *byte }).collect();
        let tool = directory.path().join(OsStr::from_bytes(&slashless));
        fs::write(&tool, "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$SAID\"\n").unwrap();
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(directory.path().join("changes.json"), "{}").unwrap();
        let Ok(program) = tool.into_os_string().into_string() else { continue };
        let mut profile = samples::nginx();
        profile.requirements.push(samples::capability(Capability::SYS_TIME));
        let grants = plan(&profile, &Choices { program: Some(program), ..Choices::default() });
        for (format, argument, call) in [
            (Format::Apply, "", "apply --yes --"),
            (Format::Undo, "", "undo --yes --"),
            (Format::Setcap, "", "apply --yes --only capabilities --"),
            (Format::Setcap, "--undo", "undo --yes --only capabilities --"),
        ] {
            let script = directory.path().join("script.sh");
            fs::write(&script, format.emit(&profile, &grants).text).unwrap();
            quietly(Command::new("bash").arg("-n").arg(&script));
            let said = directory.path().join("said");
            let mut shell = Command::new("sh");
            shell.arg(&script).args([argument].iter().filter(|word| !word.is_empty()));
            quietly(shell.env("PATH", "/usr/bin:/bin").env_remove("NRTRACE").env("SAID", &said));
            let said = fs::read_to_string(said).unwrap().replace('\n', " ");
            assert!(said.starts_with(call), "{said}");
        }
    }
}
