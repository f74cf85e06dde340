//! The package and the archive of `cargo xtask dist`, installed and tried.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nrtrace_tests::sandbox::{Sandbox, sibling};

#[test]
fn the_package_installs_and_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let program = std::env::var_os("NRTRACE").map_or_else(|| sibling("nrtrace").unwrap(), PathBuf::from);
    let made = Command::new("cargo")
        .args(["run", "--quiet", "--package", "xtask", "--", "dist", "--binary"])
        .arg(program)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let sandbox = Sandbox::bare()
        .unwrap()
        .deadline(Duration::from_secs(100))
        .bind(root.join("target/dist"), "/srv/dist");
    let script = r#"
        cd /srv/dist
        sha256sum --check --quiet SHA256SUMS
        # No triggers: the machine's manual need not be indexed for this.
        # The program under test is linked as cargo does by default.
        lintian --fail-on error,warning ./*_"$(dpkg --print-architecture)".deb
        dpkg --no-triggers --install ./*_"$(dpkg --print-architecture)".deb >/dev/null
        test "$(dpkg --verify nrtrace)" = ""
        test "$(command -v nrtrace)" = /usr/bin/nrtrace
        nrtrace --version | grep -q '^nrtrace [0-9]'
        test "$(readlink /usr/bin/kubectl-nrtrace)" = nrtrace
        kubectl-nrtrace --help | grep -q 'FILE|TYPE/NAME'
        for page in nrtrace nrtrace-run nrtrace-check nrtrace-replay; do
            zcat /usr/share/man/man1/$page.1.gz | grep -q '^.SH NAME'
        done
        bash -c 'source /usr/share/bash-completion/completions/nrtrace; complete -p nrtrace' >/dev/null
        zsh -n /usr/share/zsh/vendor-completions/_nrtrace
        zsh -fc 'autoload -U compinit; compinit -u -d /tmp/zcompdump; test -n "$_comps[nrtrace]"'
        fish --no-execute /usr/share/fish/vendor_completions.d/nrtrace.fish
        fish -c 'complete -C "nrtrace che"' | grep -q check
        mkdir /tmp/work; cd /tmp/work
        nrtrace run -q -o out -- mkdir /var/lib/packaged
        nrtrace report out/profile.json | grep -q /var/lib/packaged
        dpkg --no-triggers --remove nrtrace >/dev/null
        test ! -e /usr/bin/nrtrace
        tar -C /usr/local --strip-components 1 -xf /srv/dist/*-"$(uname -m)"-linux.tar.gz
        hash -r; test "$(command -v nrtrace)" = /usr/local/bin/nrtrace
        nrtrace report out/profile.json | grep -q /var/lib/packaged
    "#;
    sandbox.script(script).unwrap().ok().unwrap();
}
