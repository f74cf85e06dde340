//! The probe on the running kernel: what it records of small programs. Needs root and BTF, and fails without.

mod records;
mod tracee;

#[test]
fn look() {
    let trace = tracee::Tracee::default().shell("mkdir /run/nrtrace-probe-test && rmdir /run/nrtrace-probe-test; cat /root/x; cat /etc/shadow >/dev/null; cd /root; cat .profile >/dev/null; mkdir ../run/nrx; rmdir /run/nrx");
    let symbols = tracee::symbols();
    for record in &trace.records {
        match &record.body {
            records::Body::Check(check) => {
                println!(
                    "CHECK {} nr {} cap {} ret {} flags {:x} userns {} path {:?} component {:?} {:o} uid {} comm {:?}",
                    record.head.tid,
                    check.nr,
                    check.cap,
                    check.ret,
                    record.head.flags,
                    check.user_ns,
                    record.path(),
                    record.component(),
                    check.component.mode,
                    record.head.fsuid,
                    String::from_utf8_lossy(&record.head.comm)
                );
                for address in &check.stack[..check.stack_len as usize] {
                    print!(" {}", tracee::symbol(&symbols, *address));
                }
                println!();
            }
            records::Body::Call(call) => println!(
                "CALL {} nr {} ret {} flags {:x} path {:?} {:?} data {:?}",
                record.head.tid,
                call.nr,
                call.ret,
                record.head.flags,
                record.path(),
                record.second_path(),
                record.data()
            ),
            records::Body::Process(process) => println!(
                "PROC {} kind {} {:?} {:?} {:?}",
                record.head.tid,
                record.head.kind,
                process.child_pid,
                record.path(),
                record.executable()
            ),
        }
    }
    println!("{:?} {:?} {}", trace.status, trace.lost, trace.child);
}
