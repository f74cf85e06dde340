//! Tries each way that a program with capabilities has from a sandbox to the machine, and tells what came of it. What it asks
//! for is harmless where a door is open.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Tells the outcome of a system call that tells its failure by -1 and errno.
fn tell(door: &str, result: libc::c_long) {
    let error = std::io::Error::last_os_error();
    match result {
        -1 => println!("{door}: errno {}", error.raw_os_error().unwrap_or(0)),
        value => println!("{door}: {value}"),
    }
}

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "clock") {
        return keep_time();
    }
    executables();
    devices();
    mounts();
    clock();
    kernel();
    files();
}

/// Serves as long as it may set the clock.
fn keep_time() {
    // SAFETY: plain data, for which zero is valid; the structure outlives the calls.
    let set = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        timex.modes = libc::ADJ_ESTERROR;
        timex.esterror = 16_000_000;
        libc::adjtimex(&raw mut timex)
    };
    if set < 0 {
        eprintln!("adjtimex: {}", std::io::Error::last_os_error());
        std::process::exit(1);
    }
    println!("serving");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

/// Makes set-user-ID what the other processes were executed from and have mapped.
fn executables() {
    for pid in ["1", "2", "3", "4"] {
        let process = Path::new("/proc").join(pid);
        let set = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).is_ok();
        let own = set(&process.join("exe"));
        let entries = fs::read_dir(process.join("map_files")).into_iter().flatten().flatten();
        let mapped = entries.filter(|entry| set(&entry.path())).count();
        println!("executable {pid}: {own}, {mapped} mapped");
        let opened = fs::OpenOptions::new().append(true).open(process.join("exe")).is_ok();
        println!("writable {pid}: {opened}");
    }
}

fn devices() {
    let make = |path: &CStr, kind: u32, device: (u32, u32)| {
        // SAFETY: the path is a C string.
        unsafe { libc::mknod(path.as_ptr(), kind | 0o666, libc::makedev(device.0, device.1)) }.into()
    };
    tell("node of a disk", make(c"/tmp/disk", libc::S_IFBLK, (254, 0)));
    tell("node of the memory", make(c"/tmp/mem", libc::S_IFCHR, (1, 1)));
    tell("node of null", make(c"/tmp/null", libc::S_IFCHR, (1, 3)));
    for path in ["/tmp/disk", "/tmp/mem", "/dev/kmsg", "/dev/disk"] {
        let opened = fs::OpenOptions::new().write(true).open(path);
        println!("{path}: {}", opened.map_or_else(|error| error.to_string(), |_| "opened".into()));
        let device = fs::symlink_metadata(path).map(|metadata| metadata.rdev());
        println!("device {path}: {:x}", device.unwrap_or_default());
    }
}

fn mounts() {
    let mount = |source: &CStr, target: &CStr, kind: &CStr, flags| {
        // SAFETY: all are C strings.
        let done =
            unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
        done.into()
    };
    let _ = fs::create_dir("/tmp/at");
    for kind in [c"ext4", c"devtmpfs", c"cgroup2", c"sysfs", c"tmpfs"] {
        let name = kind.to_string_lossy();
        tell(&format!("mount {name}"), mount(c"/tmp/disk", c"/tmp/at", kind, 0));
    }
    tell("remount /sys", mount(c"none", c"/sys", c"sysfs", libc::MS_REMOUNT | libc::MS_BIND));
    // SAFETY: the name is a C string.
    tell("fsopen", unsafe { libc::syscall(libc::SYS_fsopen, c"ext4".as_ptr(), 0) });
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let groups = text.lines().filter(|line| line.contains(" - cgroup"));
    for point in groups.filter_map(|line| line.split(' ').nth(4)) {
        let remount = CString::new(point).unwrap_or_default();
        mount(c"none", &remount, c"", libc::MS_REMOUNT | libc::MS_BIND);
        let group = Path::new(point).join("a-door");
        println!("cgroup: {}", fs::create_dir(&group).is_ok());
        let _ = fs::remove_dir(&group);
    }
}

/// Sets the estimated error of the clock, which nothing depends on.
fn clock() {
    // SAFETY: plain data, for which zero is valid; the structures outlive the calls.
    unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        tell("clock read", libc::adjtimex(&raw mut timex).into());
        println!("tick: {}", timex.tick > 0);
        timex.modes = libc::ADJ_ESTERROR;
        timex.esterror = 100_000 + libc::c_long::from(std::process::id() as u16);
        tell("adjtimex", libc::adjtimex(&raw mut timex).into());
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        tell("clock_settime", libc::clock_settime(libc::CLOCK_REALTIME, &raw const now).into());
    }
}

fn kernel() {
    // SAFETY: nothing is passed that could be done; the kernel refuses a null pointer and a wrong magic number.
    unsafe {
        tell("init_module", libc::syscall(libc::SYS_init_module, 0, 0, c"".as_ptr()));
        tell("reboot", libc::syscall(libc::SYS_reboot, 0, 0, 0, 0));
        tell("swapon", libc::swapon(c"/tmp/null".as_ptr(), 0).into());
        tell("bpf", libc::syscall(libc::SYS_bpf, 5, 0, 0));
        let level = fs::read_to_string("/proc/sys/kernel/printk").unwrap_or_default();
        let level: i64 = level.split_whitespace().next().and_then(|level| level.parse().ok()).unwrap_or(7);
        tell("syslog", libc::syscall(libc::SYS_syslog, 8, 0, level));
        #[cfg(target_arch = "x86_64")]
        tell("iopl", libc::syscall(libc::SYS_iopl, 0));
    }
}

fn files() {
    /// `struct file_handle` with room for any.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount = 0_i32;
    // SAFETY: the structures are as the calls take them, and outlive them; descriptor 7 is looked at alone.
    unsafe {
        let found = libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            c"/etc/hostname".as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        );
        tell("handle", found);
        let opened =
            libc::syscall(libc::SYS_open_by_handle_at, libc::AT_FDCWD, &raw const handle, libc::O_RDONLY);
        tell("open by handle", opened);
        tell("inherited", libc::fcntl(7, libc::F_GETFD).into());
        for name in ["sysrq-trigger", "kcore"] {
            let path = CString::new(Path::new("/proc").join(name).as_os_str().as_bytes()).unwrap_or_default();
            let mut of: libc::statfs = std::mem::zeroed();
            libc::statfs(path.as_ptr(), &raw mut of);
            println!(
                "{name}: {}",
                if of.f_type == libc::PROC_SUPER_MAGIC { "the kernel's" } else { "covered" }
            );
        }
    }
}
