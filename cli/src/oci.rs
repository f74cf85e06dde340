//! `nrtrace oci-runtime`: an OCI runtime that gives a container's process all capabilities, ambient ones too, and hands
//! everything on to the real one.
//!
//! Only `create` and `run` are touched, and of them only the bundle's `config.json`: the user, and the capability sets. The
//! securebits of a process are no part of it, so access(2) goes on judging without capabilities.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use nrtrace_profiles::Capability;
use nrtrace_tracer::files::read_regular;
use nrtrace_tracer::launch::privileges::Privileges;
use serde_json::{Value, json};

use crate::args::OciArgs;
use crate::failure::BadInput;

/// The name under which nrtrace takes a runtime's arguments and no others.
pub const NAME: &str = "nrtrace-oci-runtime";
/// The user of images without one: that of distroless images.
const NONROOT: u32 = 65_532;
/// The largest `config.json` that is read: far more than an engine writes.
const LARGEST: u64 = 16 << 20;
/// Options of runc and crun before the subcommand that take a value.
const VALUED: [&str; 6] = ["--root", "--log", "--log-format", "--criu", "--rootless", "--cgroup-manager"];
/// Directories searched for the real runtime, besides those of `PATH`.
const PLACES: [&str; 3] = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];

/// The arguments, when nrtrace was called as [`NAME`].
pub fn called_as_runtime() -> Option<OciArgs> {
    let mut arguments = std::env::args_os();
    let own = arguments.next()?;
    let is_runtime = Path::new(&own).file_name() == Some(OsStr::new(NAME));
    is_runtime.then(|| OciArgs { real: None, user: None, arguments: arguments.collect() })
}

/// Edits the bundle where a container is made, and becomes the real runtime.
pub fn run(args: &OciArgs) -> Result<ExitCode> {
    let named = args.real.clone().or_else(|| std::env::var_os("NRTRACE_OCI_RUNTIME").map(PathBuf::from));
    let real = real(named.as_deref())?;
    if let Some(bundle) = bundle(&args.arguments) {
        let asked = args.user.clone().or_else(|| std::env::var("NRTRACE_OCI_USER").ok());
        let user = asked.as_deref().map(user).transpose()?;
        edit(&bundle.join("config.json"), user)?;
    }
    let error = Command::new(&real).args(&args.arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", real.display()))
}

/// The real runtime: the one that was named, else the first that is there.
fn real(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from)).collect();
    let candidates =
        ["runc", "crun"].into_iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        BadInput(
            "neither runc nor crun is here; name the real runtime with --real or NRTRACE_OCI_RUNTIME".into(),
        )
        .into()
    })
}

fn user(text: &str) -> Result<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) if uid != 0 && uid != u32::MAX && gid != u32::MAX => Ok((uid, gid)),
        _ => Err(BadInput(format!("{text:?} is no user of a container; write UID or UID:GID, and not root"))
            .into()),
    }
}

/// The bundle of a `create` or `run`; nothing for other subcommands.
fn bundle(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter();
    loop {
        let word = rest.next()?.to_str()?;
        match word {
            "create" | "run" => break,
            _ if VALUED.contains(&word) => {
                rest.next()?;
            }
            _ if word.starts_with('-') => {}
            _ => return None,
        }
    }
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default();
        if matches!(text, "--bundle" | "-b") {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--bundle=").or_else(|| text.strip_prefix("-b=")) {
            return Some(path.into());
        }
    }
    Some(".".into())
}

fn edit(path: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let text = read_regular(path, LARGEST).with_context(|| format!("cannot read {}", path.display()))?;
    let config: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let privileges = Privileges::of_self()?;
    let held: Vec<String> = (0..=privileges.last)
        .filter(|number| privileges.given >> number & 1 == 1)
        .map(|number| Capability::from_number(number).to_string())
        .collect();
    let edited = permissive(config, user, &held)
        .with_context(|| format!("{} has no process; is it an OCI bundle's?", path.display()))?;
    replace(path, &serde_json::to_vec(&edited)?).with_context(|| format!("cannot write {}", path.display()))
}

/// The configuration with a user that is not root and holds `capabilities` in every set.
fn permissive(mut config: Value, user: Option<(u32, u32)>, capabilities: &[String]) -> Option<Value> {
    let process = config.get_mut("process")?.as_object_mut()?;
    let now = |field: &str| {
        process.get("user").and_then(|user| user.get(field)).and_then(Value::as_u64).unwrap_or(0)
    };
    let was_root = now("uid") == 0;
    let user = user.or(was_root.then_some((NONROOT, NONROOT)));
    if let Some((uid, gid)) = user {
        process.insert("user".into(), json!({ "uid": uid, "gid": gid }));
        // The home of the user that was: the runtime looks up the new one's.
        if let Some(environment) = process.get_mut("env").and_then(Value::as_array_mut) {
            environment.retain(|variable| !variable.as_str().is_some_and(|text| text.starts_with("HOME=")));
        }
    }
    let sets = ["bounding", "effective", "inheritable", "permitted", "ambient"];
    let sets: serde_json::Map<String, Value> =
        sets.into_iter().map(|set| (set.to_owned(), json!(capabilities))).collect();
    process.insert("capabilities".into(), Value::Object(sets));
    Some(config)
}

/// Replaces a file as a whole, with the same owner and mode.
fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let facts = fs::metadata(path)?;
    let temporary = path.with_file_name(format!(".config.json.{}", std::process::id()));
    let written = (|| -> Result<()> {
        let mut file = File::options().write(true).create_new(true).open(&temporary)?;
        file.write_all(text)?;
        file.set_permissions(fs::Permissions::from_mode(facts.mode() & 0o7777))?;
        fchown(&file, Some(facts.uid()), Some(facts.gid()))?;
        file.sync_all()?;
        Ok(fs::rename(&temporary, path)?)
    })();
    if written.is_err() {
        // The error that is reported is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_bundle_is_found_where_each_engine_puts_it() {
        let cases = [
            ("create --bundle /b --pid-file /p id", Some("/b")),
            ("--root /run/runc --log /l --log-format json create --bundle=/b id", Some("/b")),
            ("--systemd-cgroup --root create run -b /b id", Some("/b")),
            ("--debug run id", Some(".")),
            ("--root /r state id", None),
            ("start create", None),
            ("exec --process /p id", None),
            ("--version", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bundle(&words(text)), expected.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn root_becomes_another_user_and_others_stay() {
        let config = |uid: u32| {
            json!({ "process": { "user": { "uid": uid, "gid": 5, "additionalGids": [7] }, "env": ["HOME=/root", "A=b"] },
                    "root": { "path": "rootfs" } })
        };
        let capabilities = ["CAP_CHOWN".to_owned()];
        let edited = permissive(config(0), None, &capabilities).unwrap();
        assert_eq!(edited.pointer("/process/user"), Some(&json!({ "uid": NONROOT, "gid": NONROOT })));
        assert_eq!(edited.pointer("/process/env"), Some(&json!(["A=b"])));
        for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
            assert_eq!(edited["process"]["capabilities"][set], json!(["CAP_CHOWN"]), "{set}");
        }
        assert_eq!(edited.pointer("/root/path"), Some(&json!("rootfs")));
        let kept = permissive(config(1000), None, &capabilities).unwrap();
        assert_eq!(kept.pointer("/process/user/additionalGids"), Some(&json!([7])));
        assert_eq!(kept.pointer("/process/env/0"), Some(&json!("HOME=/root")));
        let asked = permissive(config(1000), Some((7, 8)), &capabilities).unwrap();
        assert_eq!(asked.pointer("/process/user"), Some(&json!({ "uid": 7, "gid": 8 })));
        assert_eq!(permissive(json!({}), None, &[]), None);
    }

    #[test]
    fn the_file_keeps_its_mode_and_nothing_else_is_left() {
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().join("config.json");
        fs::write(&path, r#"{"process":{"user":{"uid":0,"gid":0}}}"#).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        edit(&path, Some((1000, 1000))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"uid\":1000") && text.contains("ambient"), "{text}");
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 1);
        fs::write(&path, "no JSON").unwrap();
        assert!(edit(&path, None).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "no JSON");
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(user("1000").unwrap(), (1000, 1000));
        assert_eq!(user("1000:7").unwrap(), (1000, 7));
        for text in ["0", "root", "1:", "", "4294967295"] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
