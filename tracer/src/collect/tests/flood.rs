//! Great numbers of records: memory and time stay bounded.

use std::time::Instant;

use nrtrace_ebpf::record::STR_PATH;
use nrtrace_profiles::event::Record;

use super::record::sketch;
use super::{Collector, Config, Store, config, mkdir, started};

fn small() -> Collector {
    started(Config { max_events: 100, ..config(Record::Calls) })
}

#[test]
fn successful_calls_beyond_the_bound_are_counted_and_the_last_ones_kept() {
    let mut collector = small();
    for n in 0..1_000 {
        collector.record(&sketch(libc::SYS_stat).path(format!("/nrtrace-no-such/{n}")).at(1_000 + n).call());
    }
    collector.record(&mkdir("/nrtrace-no-such/refused").ret(-13).at(5_000).call());
    let collected = collector.finish();
    assert_eq!(collected.dropped_calls, 1_000 - 100 - 32);
    assert_eq!(collected.events.len(), 100 + 32 + 1);
    assert!(collected.events.is_sorted_by_key(|event| event.time));
    assert_eq!(collected.events[131].time, 1_499, "the last call");
    assert_eq!(collected.events[132].time, 4_500, "the refusal");
}

#[test]
fn refused_names_in_one_directory_are_summarised() {
    let mut collector = small();
    for n in 0..5_000 {
        collector.record(&mkdir(&format!("/nrtrace-no-such/{n}")).ret(-13).call());
    }
    collector.record(&mkdir("/nrtrace-other/1").ret(-13).call());
    let collected = collector.finish();
    assert_eq!((collected.summarised, collected.dropped_calls), (3_000, 0));
    assert_eq!(collected.events.len(), 2_001);
    assert_eq!(collected.events.iter().map(|event| event.count).sum::<u64>(), 5_001);
    assert_eq!(collected.notes.len(), 1);
}

#[test]
fn refusals_everywhere_are_summarised_by_their_kind() {
    let mut collector = small();
    collector.store = Store::new(100, 50);
    for n in 0..1_000 {
        collector.record(&mkdir(&format!("/nrtrace-no-such/{n}/x")).ret(-13).call());
    }
    collector.record(&mkdir("/nrtrace-no-such/x/y").ret(-1).call());
    let collected = collector.finish();
    assert_eq!((collected.summarised, collected.events.len()), (950, 51), "EPERM is another kind");
    assert_eq!(collected.events.iter().map(|event| event.count).sum::<u64>(), 1_001);
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `cargo test --release -p nrtrace-tracer --lib flood -- --ignored --nocapture --test-threads 1`
#[test]
#[ignore = "measures time and memory, which a shared machine does not give twice"]
fn a_million_records_take_seconds_and_little_memory() {
    for (what, ret, distinct) in
        [("distinct, successful", 0, 1_000_000), ("refused", -13, 1_000_000), ("repeated", 0, 100)]
    {
        let before = resident();
        let start = Instant::now();
        let mut collector = started(config(Record::Calls));
        let mut made = sketch(libc::SYS_openat).ret(ret);
        for n in 0..1_000_000u64 {
            made.strings[STR_PATH] =
                format!("/usr/share/nrtrace-no-such/name-{:07}", n % distinct).into_bytes();
            made.head.time += 1_000;
            collector.record(&made.call());
        }
        let fed = start.elapsed();
        let collected = collector.finish();
        println!(
            "{what}: {} events in {fed:?}, {:?} with the end; peak {} KiB, before {before} KiB",
            collected.events.len(),
            start.elapsed(),
            resident()
        );
        assert!(fed.as_secs() < 10);
    }
    let start = Instant::now();
    let mut collector = started(config(Record::Calls));
    let mut made = sketch(libc::SYS_openat);
    for n in 0..1_000_000u64 {
        // Each is a check and its call, below a directory that is a symbolic link on most systems.
        made.strings[STR_PATH] = format!("/var/run/nrtrace-no-such/{}/{n}", n / 100).into_bytes();
        made.head.time += 1_000;
        collector.record(&made.check(1));
        collector.record(&made.call());
    }
    println!("checked: {:?}; peak {} KiB", start.elapsed(), resident());
}
