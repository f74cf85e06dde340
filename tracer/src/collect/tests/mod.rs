//! The collector on records made for the purpose.

mod flood;
mod path;
mod record;

use nrtrace_ebpf::record::*;
use nrtrace_profiles::event::{
    Ancestor, Backend, Event, Identity, Mode, Object, Outcome, Phase, Process, Protocol, Record,
};
use nrtrace_profiles::{Capability, RawText};
use proptest::prelude::*;

use super::*;
use record::{Sketch, sketch};

const DAC_OVERRIDE: u32 = 1;

fn config(record: Record) -> Config {
    let identity = Identity {
        user: "demo".into(),
        group: "demo".into(),
        uid: 61_184,
        gid: 61_184,
        groups: vec![],
        exists: false,
    };
    Config {
        identity,
        mode: Mode::Permissive,
        backend: Backend::Ebpf,
        record,
        max_events: Config::MAX_EVENTS,
        paths: Vec::new(),
        within: Within::default(),
    }
}

fn started(config: Config) -> Collector {
    let mut collector = Collector::new(config);
    collector.started(500);
    collector
}

fn collect(record: Record, records: &[Vec<u8>]) -> Collected {
    let mut collector = started(config(record));
    records.iter().for_each(|bytes| collector.record(bytes));
    collector.finish()
}

fn calls(records: &[Vec<u8>]) -> Vec<Event> {
    collect(Record::Calls, records).events
}

fn mkdir(path: &str) -> Sketch {
    sketch(libc::SYS_mkdir).path(path).args(&[0x7ffe_0000, 0o755])
}

fn brief(event: &Event) -> (&str, Outcome, usize, u64) {
    (&event.call.name, event.outcome, event.checks.len(), event.count)
}

#[test]
fn a_check_waits_for_its_call() {
    let made = mkdir("/nrtrace-no-such/a");
    let other = mkdir("/nrtrace-no-such/b").thread(100, 101);
    let events = calls(&[made.check(DAC_OVERRIDE), other.call(), made.clone().at(2_000).call()]);
    assert_eq!(brief(&events[0]), ("mkdir", Outcome::Success { value: 0 }, 0, 1));
    assert_eq!(brief(&events[1]), ("mkdir", Outcome::Success { value: 0 }, 1, 1));
    assert_eq!(events[1].checks[0].capability, Capability::DAC_OVERRIDE);
    assert_eq!((events[1].seq, events[1].time), (1, 1_500));
    assert_eq!(events[1].process.name, "demo".into());
}

#[test]
fn a_check_whose_call_is_not_seen_to_end_stays() {
    let lost = mkdir("/nrtrace-no-such/a");
    let again = mkdir("/nrtrace-no-such/b").args(&[0x7ffe_1000]);
    let unknown = ("mkdir", Outcome::Unknown, 1, 1);
    let next = calls(&[lost.check(DAC_OVERRIDE), again.call()]);
    assert_eq!((next.len(), brief(&next[0])), (2, unknown));
    let exited = calls(&[lost.check(DAC_OVERRIDE), lost.clone().exit(true)]);
    assert_eq!(exited.iter().map(brief).collect::<Vec<_>>(), [unknown]);
    let ended = calls(&[lost.check(DAC_OVERRIDE)]);
    assert_eq!(ended.iter().map(brief).collect::<Vec<_>>(), [unknown]);
}

#[test]
fn a_thread_that_execs_takes_its_check_along() {
    let call = sketch(libc::SYS_execve).path("/usr/bin/demo").args(&[0x7ffe_0000, 1, 2]);
    let asked = call.clone().thread(100, 107).check(DAC_OVERRIDE);
    let sibling = mkdir("/nrtrace-no-such/a").thread(100, 108).check(DAC_OVERRIDE);
    // The old program's registers and memory are gone when the call returns.
    let ended = sketch(libc::SYS_execve).flag(FLAG_FD_ONLY).string(STR_BASE, "work").call();
    let exec = sketch(0).path("/usr/bin/demo").exec("demo/bin/usr");
    let after = mkdir("/nrtrace-no-such/b").call();
    let events = calls(&[asked, sibling, sketch(0).exit(false), exec, ended, after]);
    let briefs: Vec<_> = events.iter().map(brief).collect();
    assert!(briefs.contains(&("mkdir", Outcome::Unknown, 1, 1)));
    let exec = events.iter().find(|event| &*event.call.name == "execve").unwrap();
    assert_eq!(brief(exec), ("execve", Outcome::Success { value: 0 }, 1, 1));
    assert!(
        matches!(&exec.object, Object::Path(path) if path.seen == "/usr/bin/demo".into() && path.resolved)
    );
    assert_eq!(events.last().unwrap().process.exe, Some("/usr/bin/demo".into()));
}

#[test]
fn a_started_program_is_named_as_it_was_passed() {
    let ended = sketch(libc::SYS_execve).flag(FLAG_FD_ONLY).string(STR_BASE, "nrtrace-no-such");
    let events = calls(&[sketch(0).path("./demo").exec("demo/nrtrace-no-such"), ended.call()]);
    let Object::Path(path) = &events[0].object else { panic!("{events:?}") };
    assert_eq!((&path.given, &path.path), (&"./demo".into(), &"/nrtrace-no-such/demo".into()));
}

#[test]
fn without_results_the_checks_of_one_call_are_one_event() {
    let first = mkdir("/nrtrace-no-such/a");
    let records =
        [first.check(1), first.check(2), first.check(2), mkdir("/nrtrace-no-such/b").at(3_000).check(1)];
    let events = collect(Record::Needs, &records).events;
    let briefs: Vec<_> = events.iter().map(brief).collect();
    assert_eq!(briefs, [("mkdir", Outcome::Unknown, 2, 1), ("mkdir", Outcome::Unknown, 1, 1)]);

    let mut collector = started(config(Record::Needs));
    collector.record(&first.check(1));
    collector.tick_at(first.head.time + NEEDS_PATIENCE);
    assert_eq!(collector.store.admit(0, Worth::Call, 0), Admission::New);
    assert!(!collector.pairing.overdue(u64::MAX).is_empty(), "it may have more checks yet");
    collector.record(&first.check(1));
    collector.tick_at(first.head.time + NEEDS_PATIENCE + 1);
    assert!(collector.pairing.overdue(u64::MAX).is_empty());
}

#[test]
fn an_interrupted_call_is_one_with_its_restart() {
    let made = mkdir("/nrtrace-no-such/a");
    let events = calls(&[made.check(DAC_OVERRIDE), made.clone().ret(-512).call(), made.call()]);
    assert_eq!(
        events.iter().map(brief).collect::<Vec<_>>(),
        [("mkdir", Outcome::Success { value: 0 }, 1, 1)]
    );
}

#[test]
fn a_descriptor_that_is_no_file_is_nothing() {
    let of = |flags| {
        let made = sketch(libc::SYS_fchmod).args(&[1, 0o600]).flag(FLAG_FD_ONLY | flags);
        let collected = collect(Record::Calls, &[made.call()]);
        (collected.events[0].object.clone(), collected.unresolved)
    };
    assert_eq!(of(FLAG_DEEP), (Object::Nothing, 0), "a pipe");
    assert!(matches!(of(0), (Object::Path(path), 0) if path.path == "/".into()));
}

#[test]
fn equal_calls_are_counted() {
    let open = |fd| sketch(libc::SYS_openat).path("/etc/hostname").args(&[fd, fd * 8, 0, fd]).ret(fd as i64);
    let events =
        calls(&[open(3).call(), open(4).at(1_500).call(), open(5).at(2_000).thread(100, 101).call()]);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].count, events[0].time, events[0].last), (3, 500, 1_500));

    let mut collector = started(config(Record::Calls));
    collector.record(&open(3).call());
    collector.set_phase(Phase::Steady);
    collector.record(&open(3).call());
    assert_eq!(collector.finish().events.len(), 2, "phases are told apart");
}

#[test]
fn processes_inherit_their_executable() {
    let parent = sketch(0);
    let records = [
        parent.clone().exec("nginx/sbin/usr"),
        parent.clone().fork(200, 200),
        mkdir("/nrtrace-no-such/a").thread(200, 200).call(),
        parent.thread(200, 200).exit(true),
    ];
    let collected = collect(Record::Calls, &records);
    assert_eq!(collected.processes, 2);
    let process = &collected.events[0].process;
    assert_eq!(process.exe, Some("/usr/sbin/nginx".into()));
    let parent = Ancestor { pid: 100, name: "demo".into(), exe: Some("/usr/sbin/nginx".into()) };
    assert_eq!(*process.ancestors, [parent]);
}

#[test]
fn the_nearest_ancestors_are_kept() {
    let generations = 100..140;
    let mut records: Vec<Vec<u8>> =
        generations.map(|pid| sketch(0).thread(pid, pid).fork(pid + 1, pid + 1)).collect();
    records.push(mkdir("/nrtrace-no-such/a").thread(140, 140).call());
    let collected = collect(Record::Calls, &records);
    let pids: Vec<u32> = collected.events[0].process.ancestors.iter().map(|ancestor| ancestor.pid).collect();
    assert_eq!(pids, Vec::from_iter(124..140));
    assert_eq!(pids.len(), Process::ANCESTORS);
}

#[test]
fn sockets_have_protocol_address_and_port() {
    let bind = |family: i32, rest: &[u8]| {
        let address = [&(family as u16).to_ne_bytes()[..], rest].concat();
        sketch(libc::SYS_bind).string(STR_DATA, address).args(&[3, 0x7ffe_0000, 16])
    };
    let v4 = bind(libc::AF_INET, &[0, 80, 0, 0, 0, 0]).socket(libc::AF_INET, libc::SOCK_STREAM, 80);
    let unix = bind(libc::AF_UNIX, b"demo.sock\0").socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
    let unix = unix.string(STR_BASE, "nrtrace-no-such");
    let listen = sketch(libc::SYS_listen).args(&[3, 511]).socket(libc::AF_INET, libc::SOCK_STREAM, 80);
    let events = calls(&[v4.check(10), v4.call(), listen.call(), unix.clone().at(2_000).call()]);
    let socket = |event: &Event| match &event.object {
        Object::Socket(socket) => socket.clone(),
        other => panic!("{other:?}"),
    };
    let bound = socket(&events[0]);
    assert_eq!((bound.protocol, bound.address, bound.port), (Protocol::Tcp, "0.0.0.0".into(), Some(80)));
    assert_eq!(events[0].checks[0].capability, Capability::NET_BIND_SERVICE);
    assert_eq!(socket(&events[1]), socket(&events[0]), "listen");
    let path = socket(&events[2]).path.unwrap();
    assert_eq!((path.given, path.path), ("demo.sock".into(), "/nrtrace-no-such/demo.sock".into()));

    let here = unix.string(STR_BASE, "").thread(std::process::id(), 1);
    let path = socket(&calls(&[here.call()])[0]).path.unwrap();
    assert_eq!(path.path.as_str(), std::env::current_dir().unwrap().join("demo.sock").to_str());
}

#[test]
fn standard_error_is_kept_and_kernel_parameters_are_events() {
    let said = sketch(libc::SYS_write).args(&[2, 0, 6]).string(STR_DATA, "oops\nmore").ret(6);
    let parameter = sketch(libc::SYS_write)
        .flag(FLAG_FD_ONLY)
        .args(&[2, 0, 2])
        .string(STR_BASE, "ip_forward/ipv4/net/sys/proc")
        .string(STR_DATA, "1\n")
        .ret(2);
    let collected = collect(Record::Calls, &[said.call(), parameter.call()]);
    assert_eq!(collected.stderr, [RawText::from("oops"), "m".into()]);
    assert_eq!(collected.events.len(), 1);
    assert_eq!(collected.events[0].call.data, Some("1\n".into()));
    assert!(
        matches!(&collected.events[0].object, Object::Path(path) if path.path == "/proc/sys/net/ipv4/ip_forward".into())
    );
}

fn setuid(time: u64) -> IdentityCall {
    IdentityCall {
        pid: 100,
        tid: 100,
        comm: "demo".into(),
        time,
        name: "setuid",
        args: [33, 0, 0, 0, 0, 0],
        object: Object::Ids { ids: vec![33] },
        outcome: Outcome::Answered,
        consulted: None,
    }
}

#[test]
fn a_decided_call_and_its_record_are_one_event() {
    let record = sketch(libc::SYS_setuid).args(&[33, 0xdead]);
    for supervisor_first in [true, false] {
        let mut collector = started(config(Record::Calls));
        collector.record(&sketch(0).exec("demo/bin/usr"));
        if supervisor_first {
            collector.identity_call(setuid(900));
        }
        collector.record(&record.call());
        if !supervisor_first {
            collector.identity_call(setuid(900));
        }
        let events = collector.finish().events;
        assert_eq!(events.iter().map(brief).collect::<Vec<_>>(), [("setuid", Outcome::Answered, 0, 1)]);
        assert_eq!(events[0].object, Object::Ids { ids: vec![33] });
        assert_eq!(events[0].process.exe, Some("/usr/bin/demo".into()));
        assert_eq!(events[0].time, 400);
    }
    let mut collector = started(config(Record::Calls));
    collector.identity_call(setuid(900));
    collector.record(&sketch(213).args(&[33]).flag(FLAG_COMPAT).call());
    assert_eq!(collector.finish().events.len(), 1, "213 is setuid32 in the i386 table");
    // Another thread's call is another call, and one that nobody decided on is the kernel's.
    let mut collector = started(config(Record::Calls));
    collector.identity_call(setuid(900));
    collector.record(&record.clone().thread(100, 101).at(5_000).call());
    let events = collector.finish().events;
    let outcomes: Vec<Outcome> = events.iter().map(|event| event.outcome).collect();
    assert_eq!(outcomes, [Outcome::Answered, Outcome::Success { value: 0 }]);
}

#[test]
fn thirty_two_bit_calls_have_their_own_numbers() {
    let events = calls(&[sketch(39).path("/nrtrace-no-such").flag(FLAG_COMPAT).ret(-13).call()]);
    assert_eq!(brief(&events[0]), ("mkdir", Outcome::Failure { errno: 13 }, 0, 1));
    // setreuid, whose ids have 16 bits, and setreuid32.
    for (number, taken) in [(70, [7, u32::MAX]), (203, [0x1_0007, 0xffff])] {
        let events = calls(&[sketch(number).args(&[0x1_0007, 0xffff]).flag(FLAG_COMPAT).call()]);
        assert_eq!(events[0].object, Object::Ids { ids: taken.to_vec() }, "{number}");
    }
}

#[test]
fn a_backend_may_make_its_own_observations() {
    let made = mkdir("/nrtrace-no-such/a");
    let bytes = made.call();
    let Some(Observation::Call(operation, _)) = decode(&bytes) else { panic!("not a call") };
    let mut collector = started(config(Record::Calls));
    collector.observe(Observation::Check(operation, Box::new(RawCheck::new(DAC_OVERRIDE, -1))));
    collector.observe(Observation::Call(operation, -13));
    let counters = collector.counters();
    assert_eq!((counters.events, counters.checks, counters.refusals, counters.processes), (2, 1, 1, 1));
    let events = collector.finish().events;
    assert_eq!(brief(&events[0]), ("mkdir", Outcome::Failure { errno: 13 }, 1, 1));
    assert!(!events[0].checks[0].granted);
}

#[test]
fn nonsense_is_counted_and_said() {
    let good = mkdir("/a").call();
    let collected = collect(Record::Calls, &[good[..good.len() - 1].to_vec(), vec![0; 300], vec![]]);
    assert_eq!((collected.malformed, collected.events.len(), collected.notes.len()), (3, 0, 1));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..700), kind in 0u16..7) {
        // Most kinds at random are none, and most lengths too long.
        if bytes.len() > 16 {
            bytes[..2].copy_from_slice(&kind.to_ne_bytes());
            bytes[4..16].iter_mut().skip(1).step_by(2).for_each(|high| *high = 0);
        }
        let mut collector = started(config(Record::Calls));
        collector.record(&bytes);
        collector.record(&bytes);
        collector.finish();
    }

    #[test]
    fn a_record_is_read_as_it_was_written(
        parts in proptest::array::uniform6(proptest::collection::vec(any::<u8>(), 0..300)),
        args: [u64; 6],
        ret: i64,
    ) {
        let written = Sketch { strings: parts.clone(), ..sketch(libc::SYS_rename).args(&args).ret(ret) };
        let bytes = written.call();
        let Some(Observation::Call(operation, read)) = decode(&bytes) else { panic!("not a call") };
        prop_assert_eq!((operation.args, read), (args, ret));
        prop_assert_eq!(operation.strings.all().map(<[u8]>::to_vec), parts);
        let stored = StoredOperation::new(&operation, vec![1, 2, 3]);
        prop_assert_eq!(stored.get(), operation);
        for length in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..length]), None);
        }
    }
}

/// One that moves itself into the control group that is waited for is heard of twice.
#[test]
fn who_joins_is_no_record_that_cannot_be_read() {
    let collected = collect(Record::Calls, &[sketch(0).join("/x.slice/y.service"), vec![0; 4]]);
    assert_eq!((collected.malformed, collected.events.len()), (1, 0));
}
