//! The numbers in structures that calls point to.

use nrtrace_ebpf::record::FLAG_COMPAT;
use nrtrace_profiles::calls::flags::RESOLVE_IN_ROOT;
use nrtrace_profiles::calls::{File, Flags, Limit, Operation as Does};

use super::decode::Operation;

/// The numbers of the structure that `operation`, which does this, points to, as `Call::structure` tells them; none
/// where it has none, or it could not be read.
pub fn numbers(operation: &Operation<'_>, does: Does) -> Vec<u64> {
    let data = operation.strings.data();
    let word = |at: usize| Some(u64::from_ne_bytes(*data.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?));
    let small = |at: usize| half(at).map(u64::from);
    // `RLIM_INFINITY` of 32 bits.
    let limit = |at: usize| half(at).map(|half| if half == u32::MAX { u64::MAX } else { half.into() });
    let compat = operation.head.flags & FLAG_COMPAT != 0;
    let numbers = match does {
        Does::Limit(Limit::Own) if compat => [limit(0), limit(4)],
        Does::Limit(Limit::Own | Limit::OfProcess) | Does::File(File::Open(Flags::Structure)) => {
            [word(0), word(8)]
        }
        Does::Limit(Limit::Scheduler | Limit::Parameter) => [small(0), None],
        Does::Limit(Limit::Attributes) => [small(4), small(20)],
        _ => [None, None],
    };
    numbers.into_iter().flatten().collect()
}

/// Whether a call takes the directory that it names for the root directory (openat2(2)).
pub fn is_in_root(operation: &Operation<'_>, does: Does) -> bool {
    let resolve = operation.strings.data().get(16..).and_then(|rest| rest.first_chunk());
    does.is(File::Open(Flags::Structure))
        && resolve.is_some_and(|bytes| u64::from_ne_bytes(*bytes) & RESOLVE_IN_ROOT != 0)
}
