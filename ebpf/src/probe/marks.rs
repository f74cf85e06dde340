//! The traced tasks.

use nrtrace_ebpf::layout::Mark;

use crate::kernel::Task;

pub use way::set;

/// The mark of `task`, if it has one.
#[inline(always)]
pub fn mark(task: Task) -> Option<&'static mut Mark> {
    way::find(task)
}

/// In storage that the kernel keeps with each task (Linux 5.12 for programs that trace).
#[cfg(not(feature = "portable"))]
mod way {
    use core::ffi::c_void;
    use core::ptr;

    use aya_ebpf::bindings::{
        BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
    };
    use aya_ebpf::helpers::generated::bpf_task_storage_get;
    use aya_ebpf::macros::btf_map;

    use super::{Mark, Task};

    /// A map of a value for each task (`BPF_MAP_TYPE_TASK_STORAGE`): found without a search, gone with the task.
    ///
    /// The fields are never read; their types tell the loader what map to make.
    #[repr(C)]
    pub struct TaskStorage<T> {
        r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
        key: *const i32,
        value: *const T,
        max_entries: *const [i32; 0],
        map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
    }

    // SAFETY: nothing reads the fields, and the kernel synchronises access to the map.
    unsafe impl<T> Sync for TaskStorage<T> {}

    impl<T> TaskStorage<T> {
        const fn new() -> Self {
            Self {
                r#type: ptr::null(),
                key: ptr::null(),
                value: ptr::null(),
                max_entries: ptr::null(),
                map_flags: ptr::null(),
            }
        }
    }

    #[btf_map]
    static MARKS: TaskStorage<Mark> = TaskStorage::new();

    #[inline(always)]
    pub fn find(task: Task) -> Option<&'static mut Mark> {
        // SAFETY: the map and the task are valid; the value lives as long as the program runs.
        unsafe {
            bpf_task_storage_get(
                (&raw const MARKS).cast_mut().cast(),
                task.cast_mut().cast(),
                ptr::null_mut(),
                0,
            )
            .cast::<Mark>()
            .as_mut()
        }
    }

    /// Marks `task`, unless it has a mark already; the mark it has now, none when there is no memory for it.
    #[inline(always)]
    pub fn set(task: Task, mut value: Mark) -> Option<&'static mut Mark> {
        let map = (&raw const MARKS).cast_mut().cast::<c_void>();
        // SAFETY: as in `find`; the kernel copies the value.
        unsafe {
            bpf_task_storage_get(
                map,
                task.cast_mut().cast(),
                (&raw mut value).cast(),
                u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
            )
            .cast::<Mark>()
            .as_mut()
        }
    }
}

/// In a table by the address of the task, which is nobody else's until the kernel frees it.
#[cfg(feature = "portable")]
mod way {
    use core::ffi::c_void;

    use aya_ebpf::bindings::BPF_NOEXIST;
    use aya_ebpf::btf_maps::HashMap;
    use aya_ebpf::helpers::generated::{bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem};
    use aya_ebpf::macros::{btf_map, btf_tracepoint};
    use aya_ebpf::programs::BtfTracePointContext;

    use super::{Mark, Task};

    /// What has no room is counted as lost.
    const TASKS: usize = 32 * 1024;

    #[btf_map]
    static MARKS: HashMap<u64, Mark, TASKS> = HashMap::new();

    #[inline(always)]
    fn map() -> *mut c_void {
        (&raw const MARKS).cast_mut().cast()
    }

    #[inline(always)]
    pub fn find(task: Task) -> Option<&'static mut Mark> {
        let key = task as u64;
        // SAFETY: the map and the key are valid; the value lives until the task has ended.
        unsafe { bpf_map_lookup_elem(map(), (&raw const key).cast_mut().cast()).cast::<Mark>().as_mut() }
    }

    /// Marks `task`, unless it has a mark already; the mark it has now, none when there is no memory for it.
    #[inline(always)]
    pub fn set(task: Task, value: Mark) -> Option<&'static mut Mark> {
        let key = task as u64;
        // SAFETY: as in `find`; the kernel copies the value.
        unsafe {
            bpf_map_update_elem(
                map(),
                (&raw const key).cast_mut().cast(),
                (&raw const value).cast_mut().cast(),
                u64::from(BPF_NOEXIST),
            );
        }
        find(task)
    }

    /// A task is freed: its address may become another's.
    #[btf_tracepoint(function = "sched_process_free")]
    pub fn sched_process_free(context: BtfTracePointContext) -> i32 {
        let key: u64 = context.arg(0);
        // SAFETY: the map and the key are valid.
        unsafe { bpf_map_delete_elem(map(), (&raw const key).cast_mut().cast()) };
        0
    }
}
