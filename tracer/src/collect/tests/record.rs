//! Records as the probe writes them, for tests.

use nrtrace_ebpf::record::*;

/// A record under construction.
#[derive(Clone, Default)]
pub struct Sketch {
    pub head: Head,
    pub nr: i64,
    pub args: [u64; 6],
    pub ret: i64,
    pub socket: SocketRecord,
    pub component: Option<InodeRecord>,
    pub stack: Vec<u64>,
    pub child: (u32, u32),
    pub last: bool,
    pub strings: [Vec<u8>; STRINGS],
}

/// A record of thread 100 of process 100, called `demo`.
pub fn sketch(nr: i64) -> Sketch {
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"demo");
    let mnt_ns = crate::collect::tree::own_namespace();
    let head = Head {
        time: 1_000,
        pid: 100,
        tid: 100,
        fsuid: 61_184,
        fsgid: 61_184,
        mnt_ns,
        comm,
        ..Default::default()
    };
    Sketch { head, nr, ..Default::default() }
}

impl Sketch {
    pub fn path(self, path: impl AsRef<[u8]>) -> Self {
        self.string(STR_PATH, path)
    }

    pub fn string(mut self, index: usize, text: impl AsRef<[u8]>) -> Self {
        self.strings[index] = text.as_ref().to_vec();
        self
    }

    pub fn flag(mut self, flag: u16) -> Self {
        self.head.flags |= flag;
        self
    }

    pub fn args(mut self, args: &[u64]) -> Self {
        self.args[..args.len()].copy_from_slice(args);
        self
    }

    pub fn thread(mut self, pid: u32, tid: u32) -> Self {
        (self.head.pid, self.head.tid) = (pid, tid);
        self
    }

    pub fn at(mut self, time: u64) -> Self {
        self.head.time = time;
        self
    }

    pub fn ret(mut self, ret: i64) -> Self {
        self.ret = ret;
        self
    }

    pub fn socket(mut self, family: i32, ty: i32, port: u16) -> Self {
        self.socket = SocketRecord { family: family as u16, ty: ty as u16, protocol: 0, port };
        self.flag(FLAG_SOCKET)
    }

    fn head(&self, kind: u16) -> Head {
        Head { kind, strings: self.strings.clone().map(|text| text.len() as u16), ..self.head }
    }

    fn finish<T: Record>(&self, fixed: T) -> Vec<u8> {
        // SAFETY: a record consists of integers without padding, so all its bytes are initialised.
        let fixed = unsafe { std::slice::from_raw_parts((&raw const fixed).cast::<u8>(), size_of::<T>()) };
        [fixed, &self.strings.concat()].concat()
    }

    pub fn call(&self) -> Vec<u8> {
        let head = self.head(KIND_CALL);
        let nr = self.nr as i32;
        self.finish(CallRecord {
            head,
            nr,
            ret: self.ret,
            args: self.args,
            socket: self.socket,
            ..CallRecord::default()
        })
    }

    pub fn check(&self, cap: u32) -> Vec<u8> {
        let mut stack = [0; STACK_MAX];
        stack[..self.stack.len()].copy_from_slice(&self.stack);
        let component = self.component.unwrap_or_default();
        self.finish(CheckRecord {
            head: self.head(KIND_CHECK),
            nr: self.nr as i32,
            cap,
            ret: self.ret as i32,
            opts: 0,
            user_ns: 0xefff_fffd,
            stack_len: self.stack.len() as u32,
            args: self.args,
            component,
            socket: self.socket,
            stack,
        })
    }

    fn process(&self, kind: u16) -> Vec<u8> {
        let (child_pid, child_tid) = self.child;
        let last_thread = self.last.into();
        self.finish(ProcessRecord {
            head: self.head(kind),
            child_pid,
            child_tid,
            exit_code: 0,
            last_thread,
            capabilities: 0,
        })
    }

    pub fn fork(mut self, pid: u32, tid: u32) -> Vec<u8> {
        self.child = (pid, tid);
        self.process(KIND_FORK)
    }

    pub fn join(self, group: &str) -> Vec<u8> {
        self.path(group).process(KIND_JOIN)
    }

    pub fn exec(self, exe: &str) -> Vec<u8> {
        self.string(STR_DATA, exe).process(KIND_EXEC)
    }

    pub fn exit(mut self, last: bool) -> Vec<u8> {
        self.last = last;
        self.process(KIND_EXIT)
    }
}
