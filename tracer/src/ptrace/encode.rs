//! Records to bytes.

use nrtrace_ebpf::record::{CallRecord, CheckRecord, Head, ProcessRecord, Record, STRINGS};

/// A record with strings behind it.
pub trait WithHead: Record {
    /// Its common part.
    fn head(&mut self) -> &mut Head;
}

impl WithHead for CallRecord {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl WithHead for CheckRecord {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl WithHead for ProcessRecord {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// The bytes of `record`, its string lengths set, followed by `strings` in their order.
pub fn encode<T: WithHead>(record: &mut T, strings: &[Vec<u8>; STRINGS]) -> Vec<u8> {
    record.head().strings =
        std::array::from_fn(|index| strings[index].len().min(usize::from(u16::MAX)) as u16);
    let lengths = record.head().strings;
    let total: usize = lengths.iter().map(|&length| usize::from(length)).sum();
    let mut bytes = Vec::with_capacity(size_of::<T>() + total);
    // SAFETY: `Record` promises integers without padding, so each byte is initialised.
    bytes.extend_from_slice(unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>())
    });
    for (string, length) in strings.iter().zip(lengths) {
        bytes.extend_from_slice(&string[..usize::from(length)]);
    }
    bytes
}
