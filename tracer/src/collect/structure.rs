//! The numbers in structures that calls point to.

use nrtrace_ebpf::record::FLAG_COMPAT;

use super::decode::Operation;

/// The numbers of the structure that `operation`, a call of this name, points to, as `Call::structure` tells them; none
/// where it has none, or it could not be read.
pub fn numbers(operation: &Operation<'_>, name: &str) -> Vec<u64> {
    let data = operation.strings.data();
    let word = |at: usize| Some(u64::from_ne_bytes(*data.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?));
    let small = |at: usize| half(at).map(u64::from);
    // `RLIM_INFINITY` of 32 bits.
    let limit = |at: usize| half(at).map(|half| if half == u32::MAX { u64::MAX } else { half.into() });
    let compat = operation.head.flags & FLAG_COMPAT != 0;
    let numbers = match name {
        "setrlimit" if compat => [limit(0), limit(4)],
        "setrlimit" | "prlimit64" | "openat2" => [word(0), word(8)],
        "sched_setscheduler" | "sched_setparam" => [small(0), None],
        "sched_setattr" => [small(4), small(20)],
        _ => [None, None],
    };
    numbers.into_iter().flatten().collect()
}

/// The arguments of a call by this name, with the flags and the mode of openat2(2) where openat(2) has them.
pub fn in_place(name: &str, args: &[u64; 6], structure: &[u64]) -> [u64; 6] {
    match (name, structure, *args) {
        ("openat2", [flags, mode], [dirfd, path, .., last]) => [dirfd, path, *flags, *mode, 0, last],
        // A pointer is no set of flags.
        ("openat2", _, [dirfd, path, ..]) => [dirfd, path, 0, 0, 0, 0],
        _ => *args,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openat2_reads_like_openat() {
        let args = [3, 0x7000, 0x7fff_0000, 24, 0, 0];
        assert_eq!(in_place("openat2", &args, &[0o101, 0o640])[2..4], [0o101, 0o640]);
        assert_eq!(in_place("openat2", &args, &[])[2..4], [0, 0]);
        assert_eq!(in_place("openat", &args, &[1, 2]), args);
    }
}
