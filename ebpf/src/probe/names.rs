//! Names of the kernel's functions, asked for one address at a time: to read all of them takes longer than all else
//! that is done at the start.

use core::ffi::c_void;

use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::bpf_snprintf;
use aya_ebpf::macros::btf_map;
use nrtrace_ebpf::layout::NAME_MAX;

/// A name alone, without the distance to its start. The helper takes a constant that the loader has frozen.
#[unsafe(no_mangle)]
static NAME_FORMAT: [u8; 4] = *b"%ps\0";

/// The answer.
#[btf_map]
static NAME: Array<[u8; NAME_MAX], 1> = Array::new();

/// The tracer (`BPF_PROG_TEST_RUN`) asks what the function is called that holds an address.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn name_of(context: *const u64) -> i32 {
    // SAFETY: the tracer passes an address as the first of several words.
    let address = [unsafe { *context }];
    let Some(name) = NAME.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map has the one element, of that size; the helper reads the address and a string that ends.
    let length = unsafe {
        bpf_snprintf(
            name.cast(),
            NAME_MAX as u32,
            (&raw const NAME_FORMAT).cast_mut().cast(),
            address.as_ptr().cast_mut().cast::<c_void>().cast(),
            size_of_val(&address) as u32,
        )
    };
    length as i32
}
