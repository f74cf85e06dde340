//! What a run shows on a terminal while it lasts: its needs as they are found, below what the program writes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::sandbox::Sandbox;

/// Python: the command on a terminal of 40 lines and 80 columns; all that it writes is in `OUT/raw`.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
pid, master = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
with open(os.environ["OUT"] + "/raw", "wb") as raw:
    while True:
        try:
            got = os.read(master, 65536)
        except OSError:
            break
        if not got:
            break
        raw.write(got)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// Writes on both streams, in whole lines and in pieces, and needs one thing after the other.
const PROGRAM: &str = r#"
for name in alder birch cedar ebony fir hazel larch maple oak; do
    n=$((n + 1))
    echo "line $n of what the program writes"
    mkdir /srv/$name
    printf 'a piece, ' >&2; sleep 0.3; echo "and the rest $n" >&2
done
sleep 1
"#;

fn run(options: &str) -> Vec<u8> {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(60));
    let script = format!(
        "cat >/tmp/terminal.py <<'PYTHON'\n{TERMINAL}PYTHON\ncat >/tmp/program <<'PROGRAM'\n{PROGRAM}PROGRAM\nexport OUT\n\
         python3 /tmp/terminal.py nrtrace run {options} -- sh /tmp/program"
    );
    sandbox.script(&script).unwrap().ok().unwrap();
    std::fs::read(sandbox.out().join("raw")).unwrap()
}

/// The lines of the screen after these bytes.
fn lines(bytes: &[u8]) -> Vec<String> {
    let [rows, columns] = [40, 80].map(|count| std::num::NonZero::new(count).unwrap());
    let mut terminal = vt100::Parser::new(rows, columns, 0);
    terminal.process(bytes);
    terminal.screen().rows(0, 80).collect()
}

/// That all of the program's lines are there, whole and in order.
fn unharmed(lines: &[String]) {
    let mut rest = lines.iter();
    for n in 1..=9 {
        for line in [format!("line {n} of what the program writes"), format!("a piece, and the rest {n}")] {
            assert!(rest.any(|seen| seen.trim_end() == line), "{line:?} is not whole in {lines:#?}");
        }
    }
}

#[test]
fn needs_appear_below_what_the_program_writes_and_leave_it_alone() {
    let raw = run("");
    let text = String::from_utf8_lossy(&raw);
    // The last that was shown, and the end of it.
    let end = text.rfind("\x1b[r").unwrap();
    let shown = lines(&raw[..text[..end].rfind("\x1b7").unwrap()]);
    unharmed(&shown);
    let foot = &shown[shown.len() - 9..];
    assert!(foot.iter().any(|line| line.contains("so far")), "{foot:#?}");
    assert!(foot[7].contains("/srv/") && foot[8].contains("Ctrl-C to stop"), "{foot:#?}");
    // They came one after the other: at first there was one, and it was not what is there in the end.
    let first = text.find("alder").unwrap();
    assert!(first < text.find("line 4 of").unwrap(), "{text}");
    let after = lines(&raw);
    unharmed(&after);
    let left = after.iter().filter(|line| line.contains("so far") || line.contains("Ctrl-C")).count();
    assert_eq!(left, 0, "something of it stays: {after:#?}");
    assert!(
        after.iter().any(|line| line.contains("needs") && line.contains("grants to run as")),
        "{after:#?}"
    );
}

#[test]
fn who_asks_for_silence_has_the_terminal_to_the_program() {
    let raw = run("-q");
    assert!(!raw.contains(&0x1b), "{}", String::from_utf8_lossy(&raw));
    unharmed(&lines(&raw));
}
