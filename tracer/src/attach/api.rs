//! docker's API, which podman has too: the engines that serve it are asked by the sockets on which they listen.
//!
//! Asked so, an engine tells of its containers wherever it keeps them (`--data-root`, `--exec-root`, a user's own). None is
//! started for that: only what listens already is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde_json::Value;

use super::monitor;
use super::state::{Known, docker_pod, is_trusted, text};
use crate::status::Status;

/// For so long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of an answer that are read.
const LONGEST: u64 = 16 << 20;
/// Most headers of an answer.
const HEADERS: usize = 64;

/// For so long an answer is good: whoever waits for a container looks far more often.
const FRESH: Duration = Duration::from_millis(50);

/// Sockets that gave no answer of that kind, by their inode numbers: they are not asked again.
static OTHERS: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
/// What was told last of containers, and when.
static TOLD: Mutex<BTreeMap<u64, (Instant, Vec<Known>)>> = Mutex::new(BTreeMap::new());

/// A socket on which an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Api {
    inode: u64,
    /// As this process sees it.
    path: PathBuf,
    /// Whether the engine is root's, or of who asks.
    pub(super) trusted: bool,
}

/// Those that there are now.
pub(super) fn all() -> Vec<Api> {
    let mut found: Vec<Api> = monitor::engines().servers.into_iter().flat_map(of_server).collect();
    found.sort_by_key(|api| api.inode);
    found.dedup_by_key(|api| api.inode);
    let others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
    found.retain(|api| !others.contains(&api.inode));
    found
}

/// On which sockets a process listens that have a name.
fn of_server(pid: i32) -> Vec<Api> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let held: BTreeSet<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let leads = fs::read_link(entry.path()).ok()?;
            leads.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect();
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let uid = Status::of(pid).and_then(|status| Some(status.ids("Uid")?[1]));
    let trusted = uid.is_some_and(is_trusted);
    listening(&table)
        .filter(|(inode, _)| held.contains(inode))
        .map(|(inode, path)| Api { inode, path: root.join(path.trim_start_matches('/')), trusted })
        .collect()
}

/// Of `/proc/net/unix`, the inode numbers and paths of sockets that connections are accepted on.
fn listening(table: &str) -> impl Iterator<Item = (u64, &str)> {
    /// `__SO_ACCEPTCON` (`include/uapi/linux/net.h`), as the table has it.
    const ACCEPTS: &str = "00010000";
    table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let flags = fields.nth(3)?;
        let inode = fields.nth(2)?.parse().ok()?;
        let path = fields.next().filter(|path| path.starts_with('/'))?;
        (flags == ACCEPTS).then_some((inode, path))
    })
}

impl Api {
    /// The containers that the engine tells of; one that is busy has told of those before.
    pub(super) fn containers(&self) -> Vec<Known> {
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.get(&self.inode);
        if let Some((_, known)) = before.filter(|(when, _)| when.elapsed() < FRESH) {
            return known.clone();
        }
        let answer = exchange(&self.path, "/containers/json?all=1").ok().and_then(|bytes| read(&bytes));
        match (answer, before) {
            (Some((engine, Value::Array(list))), _) => {
                let known: Vec<Known> = list.iter().filter_map(|entry| container(entry, engine)).collect();
                told.insert(self.inode, (Instant::now(), known.clone()));
                known
            }
            (_, Some((_, known))) => known.clone(),
            (_, None) => {
                OTHERS.lock().unwrap_or_else(PoisonError::into_inner).insert(self.inode);
                Vec::new()
            }
        }
    }

    /// Where it keeps what it knows of them, if it tells that.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        let (_, told) = read(&exchange(&self.path, "/info").ok()?)?;
        Some(Path::new(text(&told, "/DockerRootDir")?).join("containers"))
    }
}

/// Asks, and takes the answer to its end. With HTTP/1.0, that is where the other side closes.
fn exchange(path: &Path, what: &str) -> std::io::Result<Vec<u8>> {
    let begun = Instant::now();
    let left = || {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        if left.is_zero() { Err(std::io::ErrorKind::TimedOut) } else { Ok(left) }
    };
    let mut stream = UnixStream::from(connected(path)?);
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(format!("GET {what} HTTP/1.0\r\nHost: nrtrace\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk)? {
            0 => return Ok(answer),
            length => answer.extend_from_slice(&chunk[..length]),
        }
        if answer.len() as u64 > LONGEST {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// Connects at once or not at all: one that does not accept is not waited for.
fn connected(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let end = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(end.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(end);
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

/// Which engine an answer is from, and what is in it; nothing for one that is none.
fn read(bytes: &[u8]) -> Option<(&'static str, Value)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(begin) = response.parse(bytes).ok()? else { return None };
    if response.code != Some(200) {
        return None;
    }
    let server = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("server"))?;
    let engine = match server.value.split(|byte| *byte == b'/').next()? {
        b"Docker" => "docker",
        b"Libpod" => "podman",
        _ => return None,
    };
    Some((engine, serde_json::from_slice(&bytes[begin..]).ok()?))
}

/// One entry of `/containers/json`.
fn container(entry: &Value, engine: &'static str) -> Option<Known> {
    let names = entry.pointer("/Names").and_then(Value::as_array).into_iter().flatten();
    Some(Known {
        id: text(entry, "/Id")?.to_owned(),
        names: names.filter_map(Value::as_str).map(|name| name.trim_start_matches('/').to_owned()).collect(),
        engine,
        ended: text(entry, "/State").filter(|state| matches!(*state, "exited" | "dead")).map(str::to_owned),
        image: text(entry, "/Image").map(str::to_owned),
        pod: entry.pointer("/Labels").and_then(docker_pod),
        ..Known::default()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Serves one connection as this answer, at a path that is gone with what is given back.
    fn serving(answer: String) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1 << 10]);
            let _ = stream.write_all(answer.as_bytes());
        });
        (place, path)
    }

    fn answer(server: &str, body: &str) -> String {
        format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nServer: {server}\r\n\r\n{body}")
    }

    #[test]
    fn an_engine_tells_of_its_containers() {
        let body = r#"[{"Id":"aa","Names":["/web","/other/web"],"Image":"nginx:1","Labels":{}},{"Names":["/no-id"]}]"#;
        for (server, engine) in [("Docker/20.10.24 (linux)", "docker"), ("Libpod/4.3.1 (linux)", "podman")] {
            let (_place, path) = serving(answer(server, body));
            let inode = u64::from(std::process::id()) << 32 | u64::from(engine.as_bytes()[0]);
            let found = Api { inode, path, trusted: true }.containers();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].id.as_str(), found[0].engine), ("aa", engine));
            assert_eq!(found[0].names, ["web", "other/web"]);
            assert_eq!(found[0].image.as_deref(), Some("nginx:1"));
        }
    }

    #[test]
    fn where_docker_keeps_them_is_asked() {
        let (_place, path) = serving(answer("Docker/27", r#"{"DockerRootDir":"/srv/docker"}"#));
        assert_eq!(Api { inode: 0, path, trusted: true }.directory(), Some("/srv/docker/containers".into()));
    }

    #[test]
    fn what_is_no_engine_is_asked_once() {
        for text in
            ["", "garbage", "HTTP/1.0 200 OK\r\nServer: nginx\r\n\r\n[]", &answer("Docker/27", "no JSON")]
        {
            let (_place, path) = serving(text.to_owned());
            let inode = u64::MAX - text.len() as u64;
            assert!(Api { inode, path, trusted: true }.containers().is_empty(), "{text}");
            assert!(OTHERS.lock().unwrap().contains(&inode), "{text}");
        }
    }

    #[test]
    fn one_that_says_nothing_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("api.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let begun = Instant::now();
        assert!(exchange(&path, "/info").is_err());
        assert!(begun.elapsed() < PATIENCE * 4);
    }

    #[test]
    fn sockets_are_found_by_who_listens() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            00000000ee5cbf02: 00000002 00000000 00010000 0001 01 18040530 /srv/d/api.sock\n\
            00000000f7c598a4: 00000003 00000000 00000000 0001 03 18041490 /srv/d/connected.sock\n\
            00000000f7c598a5: 00000002 00000000 00010000 0001 01 18041491 @abstract\n\
            00000000f7c598a6: 00000002 00000000 00010000 0001 01 18041492\n";
        assert_eq!(listening(table).collect::<Vec<_>>(), [(18_040_530, "/srv/d/api.sock")]);
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("own.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let own = of_server(std::process::id() as i32);
        assert!(own.iter().any(|api| api.path.ends_with(path.strip_prefix("/").unwrap())), "{own:?}");
    }
}
