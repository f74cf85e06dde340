//! What a sandbox keeps a program from.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Object, Outcome, SocketObject, Trace};

/// The services of this machine that the program could not reach from the sandbox, by their sockets.
pub fn services(trace: &Trace) -> Vec<String> {
    let mut services = BTreeSet::new();
    for event in &trace.events {
        if let Object::Socket(SocketObject { path: Some(path), .. }) = &event.object
            && event.outcome == (Outcome::Failure { errno: libc::ECONNREFUSED })
        {
            services.insert(path.path.clone());
        }
    }
    let listens = |path: &RawText| {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        path.metadata().is_ok_and(|what| what.file_type().is_socket())
    };
    let told = services.iter().filter(|path| listens(path)).map(|path| {
        format!("whoever listens at {path} on this machine cannot be reached from the sandbox: --share {path} shows it")
    });
    told.collect()
}
