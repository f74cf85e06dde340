//! Records, taken apart.

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use nrtrace_ebpf::{
    CallRecord, CheckRecord, FLAG_FD_ONLY, Head, KIND_CALL, KIND_CHECK, KIND_EXEC, KIND_EXIT, KIND_FORK,
    ProcessRecord, STR_BASE, STR_BASE2, STR_DATA, STR_PATH, STR_PATH2, STR_ROOT, STRINGS, read,
};
use nrtrace_tracer::ebpf::Lost;

/// All that a run recorded.
pub struct Trace {
    pub records: Vec<Record>,
    pub lost: Lost,
    pub child: Pid,
    pub status: WaitStatus,
}

/// A record with its strings.
#[derive(Debug)]
pub struct Record {
    pub head: Head,
    pub body: Body,
    pub strings: [Vec<u8>; STRINGS],
}

/// The fixed part.
#[derive(Debug)]
pub enum Body {
    Check(Box<CheckRecord>),
    Call(CallRecord),
    Process(ProcessRecord),
}

/// Takes a record apart; every byte must be accounted for.
pub fn parse(bytes: &[u8]) -> Record {
    let head: Head = read(bytes).expect("a head");
    let (body, fixed) = match head.kind {
        KIND_CHECK => (Body::Check(Box::new(read(bytes).unwrap())), size_of::<CheckRecord>()),
        KIND_CALL => (Body::Call(read(bytes).unwrap()), size_of::<CallRecord>()),
        KIND_FORK | KIND_EXEC | KIND_EXIT => {
            (Body::Process(read(bytes).unwrap()), size_of::<ProcessRecord>())
        }
        kind => panic!("no such kind of record: {kind}"),
    };
    let mut rest = &bytes[fixed..];
    let strings = head.strings.map(|length| {
        let (string, after) = rest.split_at(length.into());
        rest = after;
        string.to_vec()
    });
    assert!(rest.is_empty(), "bytes behind the strings of {head:?}");
    Record { head, body, strings }
}

impl Record {
    pub fn check(&self) -> Option<&CheckRecord> {
        match &self.body {
            Body::Check(check) => Some(check),
            _ => None,
        }
    }

    pub fn call(&self) -> Option<&CallRecord> {
        match &self.body {
            Body::Call(call) => Some(call),
            _ => None,
        }
    }

    pub fn process(&self) -> Option<&ProcessRecord> {
        match &self.body {
            Body::Process(process) => Some(process),
            _ => None,
        }
    }

    /// The first path, made absolute.
    pub fn path(&self) -> String {
        self.absolute(STR_PATH, STR_BASE)
    }

    /// The second path of a call, made absolute.
    pub fn second_path(&self) -> String {
        self.absolute(STR_PATH2, STR_BASE2)
    }

    /// The component that refused.
    pub fn component(&self) -> String {
        leaf_first(&self.strings[STR_PATH2])
    }

    /// The process's root directory.
    pub fn root(&self) -> String {
        leaf_first(&self.strings[STR_ROOT])
    }

    /// The data as text.
    pub fn data(&self) -> String {
        String::from_utf8_lossy(&self.strings[STR_DATA]).into_owned()
    }

    /// The executable of an exec record.
    pub fn executable(&self) -> String {
        leaf_first(&self.strings[STR_DATA])
    }

    fn absolute(&self, path: usize, base: usize) -> String {
        let path = String::from_utf8_lossy(&self.strings[path]).into_owned();
        if path.starts_with('/') {
            return path;
        }
        let base = leaf_first(&self.strings[base]);
        if path.is_empty() {
            assert!(self.head.flags & FLAG_FD_ONLY != 0 || path.is_empty());
            return base;
        }
        format!("{}/{path}", base.trim_end_matches('/'))
    }
}

/// A path from its leaf-first form.
pub fn leaf_first(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut components: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
    components.reverse();
    format!("/{}", components.join("/"))
}
