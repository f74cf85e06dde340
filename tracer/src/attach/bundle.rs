//! The program that a container runtime is about to run, by the `config.json` of its bundle: what is to be known of it
//! before it runs, or when it has ended too soon to be looked at.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;

use nrtrace_profiles::container::{IdRange, outside};
use nrtrace_profiles::{Capability, RawText};
use serde_json::Value;

use super::process::Facts;

/// What the bundle says, with ids as the container sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    command: Vec<String>,
    cwd: String,
    environment: BTreeMap<String, String>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// What it starts with, as bits.
    capabilities: u64,
    filtered: bool,
    uid_map: Vec<IdRange>,
    gid_map: Vec<IdRange>,
}

impl Program {
    /// Reads a `config.json`; nothing when it names no program.
    pub fn of_config(config: &Value) -> Option<Self> {
        let process = config.get("process")?;
        let texts = |value: &Value, pointer: &str| -> Vec<String> {
            let list = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let uid = process.pointer("/user/uid").and_then(id).unwrap_or(0);
        // Of what root may, an execve(2) leaves the rest nothing but what is ambient.
        let set = if uid == 0 { "/capabilities/effective" } else { "/capabilities/ambient" };
        let capabilities = texts(process, set);
        let bits = capabilities.iter().filter_map(|name| Capability::from_str(name).ok());
        let command = texts(process, "/args");
        (!command.is_empty()).then(|| Self {
            cwd: process.get("cwd").and_then(Value::as_str).unwrap_or("/").to_owned(),
            environment: texts(process, "/env")
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            uid,
            gid: process.pointer("/user/gid").and_then(id).unwrap_or(0),
            groups: process
                .pointer("/user/additionalGids")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(id)
                .collect(),
            capabilities: bits.fold(0, |all, capability| all | 1 << capability.number()),
            filtered: config.pointer("/linux/seccomp").is_some_and(|seccomp| !seccomp.is_null()),
            uid_map: map_at(config, "/linux/uidMappings"),
            gid_map: map_at(config, "/linux/gidMappings"),
            command,
        })
    }

    /// What is known of the program when it runs, in the place of `runtime`, the process that becomes it or has been it.
    pub fn facts(&self, runtime: &Facts) -> Facts {
        let [uid_map, gid_map] = [(&runtime.uid_map, &self.uid_map), (&runtime.gid_map, &self.gid_map)]
            .map(|(real, planned)| if real.is_empty() { planned } else { real });
        let uid = |id: u32| outside(uid_map, id).unwrap_or(id);
        let gid = |id: u32| outside(gid_map, id).unwrap_or(id);
        let name = self.command[0].rsplit('/').next().unwrap_or_default();
        Facts {
            name: RawText::from(name),
            command: self.command.iter().map(|word| RawText::from(word.as_str())).collect(),
            exe: self
                .executable(runtime.pid)
                .map(|path| RawText::from(path.as_str()))
                .or(runtime.exe.clone()),
            cwd: RawText::from(self.cwd.as_str()),
            environment: self
                .environment
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect(),
            uid: uid(self.uid),
            gid: gid(self.gid),
            groups: self.groups.iter().map(|id| gid(*id)).collect(),
            capabilities: self.capabilities,
            filtered: self.filtered,
            uid_map: uid_map.clone(),
            gid_map: gid_map.clone(),
            ..runtime.clone()
        }
    }

    /// As execvpe(3) looks for it, in the root of `pid`.
    fn executable(&self, pid: i32) -> Option<String> {
        let command = &self.command[0];
        if command.contains('/') {
            return command.starts_with('/').then(|| command.clone());
        }
        let path = self.environment.get("PATH")?;
        path.split(':')
            .map(|directory| format!("{directory}/{command}"))
            .find(|path| Path::new(&format!("/proc/{pid}/root{path}")).is_file())
    }
}

/// The ranges of a user namespace.
fn map_at(config: &Value, pointer: &str) -> Vec<IdRange> {
    let ranges = config.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let number = |range: &Value, name: &str| range.get(name)?.as_u64().and_then(|id| u32::try_from(id).ok());
    ranges
        .filter_map(|range| {
            Some(IdRange {
                inside: number(range, "containerID")?,
                outside: number(range, "hostID")?,
                length: number(range, "size")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bundle_tells_what_will_run() {
        let config = json!({
            "process": {
                "args": ["web", "-x"], "cwd": "/srv", "env": ["PATH=/usr/bin:/bin", "A=b=c"],
                "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
                "capabilities": {"effective": ["CAP_CHOWN"], "ambient": ["CAP_NET_BIND_SERVICE"]},
            },
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}},
        });
        let map = vec![IdRange { inside: 0, outside: 100_000, length: 65_536 }];
        let runtime = Facts { pid: 12, uid_map: map.clone(), gid_map: map, ..Facts::default() };
        let facts = Program::of_config(&config).unwrap().facts(&runtime);
        assert_eq!((facts.pid, facts.uid, facts.gid, facts.groups), (12, 100_007, 100_008, vec![100_009]));
        assert_eq!((facts.capabilities, facts.filtered), (1 << 10, true));
        assert_eq!(facts.command, [RawText::from("web"), RawText::from("-x")]);
        assert_eq!(facts.environment[&OsString::from("A")], "b=c");
        let config = json!({
            "process": {"args": ["web"], "user": {"uid": 7, "gid": 8}},
            "linux": {"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]},
        });
        let gone = Program::of_config(&config)
            .unwrap()
            .facts(&Facts { exe: Some("/web".into()), ..Facts::default() });
        assert_eq!((gone.uid, gone.gid, gone.exe), (1007, 8, Some("/web".into())));
        assert_eq!(gone.uid_map, [IdRange { inside: 0, outside: 1000, length: 10 }]);
        assert_eq!(Program::of_config(&json!({"process": {"args": []}})), None);
        assert_eq!(Program::of_config(&json!({})), None);
    }

    #[test]
    fn root_starts_with_what_is_effective() {
        let config =
            json!({"process": {"args": ["/bin/x"], "capabilities": {"effective": ["CAP_CHOWN", "CAP_NEW"]}}});
        let facts = Program::of_config(&config).unwrap().facts(&Facts::default());
        assert_eq!((facts.uid, facts.capabilities), (0, 1));
        assert_eq!(facts.exe, Some(RawText::from("/bin/x")));
    }
}
