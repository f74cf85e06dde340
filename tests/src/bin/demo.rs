//! nrtrace on a real service, in a sandbox: what nginx needs, and proof that it suffices. `cargo xtask demo` runs it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::service::quote;

const SERVICE: [&str; 3] = ["/usr/sbin/nginx", "-g", "daemon off;"];

fn main() -> ExitCode {
    match std::env::args().nth(1).context("usage: demo DIR").and_then(|out| demo(Path::new(&out))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(out: &Path) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let service = SERVICE.map(quote).join(" ");
    println!("$ sudo nrtrace run --for 5s -o out/ -- /usr/sbin/nginx -g 'daemon off;'");
    let traced = sandbox.script(&format!(
        "cd /\nrm -rf /var/lib/nginx/*\n(sleep 2; curl -sS -o /dev/null http://127.0.0.1/) &\n\
         {BIN}/nrtrace run --for 5s -o {OUT}/result -- {service} 2>&1"
    ))?;
    let text = String::from_utf8_lossy(&traced.stdout).replace(&format!("{OUT}/result/"), "out/");
    std::io::stdout().write_all(text.as_bytes())?;
    traced.ok()?;
    let copied = Command::new("cp").arg("-rT").arg(sandbox.out().join("result")).arg(out).status()?;
    ensure!(copied.success(), "cannot copy the results to {}", out.display());
    println!("\nNow with what was written, and with nothing else, as that user:");
    let proved = sandbox.script(&format!(
        "cd /\nrm -rf /var/lib/nginx/*\n\
         systemd-sysusers {OUT}/result/sysusers.d/nrtrace-nginx.conf\n\
         systemd-tmpfiles --create {OUT}/result/tmpfiles.d/nrtrace-nginx.conf\n\
         setpriv --reuid nginx --regid nginx --clear-groups --no-new-privs --bounding-set=-all,+net_bind_service \
         --inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service {service} &\n\
         for _ in $(seq 50); do curl -sS -o /dev/null http://127.0.0.1/ 2>/dev/null && break; sleep 0.1; done\n\
         curl -sS -o /dev/null -w 'GET http://127.0.0.1/ -> %{{http_code}}\\n' http://127.0.0.1/\n\
         ps -o user:12,args -C nginx\nkill %1\nwait"
    ))?;
    std::io::stdout().write_all(&proved.ok()?.stdout)?;
    Ok(())
}
