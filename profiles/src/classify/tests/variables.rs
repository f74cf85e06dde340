//! Variables of the environment.

use crate::Capability;

use super::build::*;
use super::run;

/// Variables that move files, and are not used, are told of with what is used instead.
#[test]
fn variables_that_are_not_used() {
    let random = "/run/k0s-2957104368-kubelet-bootstrap-kubeconfig";
    let made = || {
        open(random, O_RDWR | O_CREAT | O_EXCL).check(Capability::DAC_OVERRIDE, O_CREATE).in_directory("/run")
    };
    let notes = |variables: &[(&str, &str)], extra: Option<Make>| {
        let mut trace = trace("/usr/bin/k0s controller", [made()].into_iter().chain(extra));
        trace.run.environment =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        run(&trace).notes.join("\n")
    };
    let unused = notes(&[("TMPDIR", "/srv/tmp"), ("XDG_CONFIG_HOME", "/srv/config")], None);
    assert!(unused.contains("TMPDIR=/srv/tmp was set, and the program did not use it"), "{unused}");
    assert!(unused.contains("made elsewhere: /run/k0s-*-kubelet-bootstrap-kubeconfig"), "{unused}");
    assert!(
        unused.contains("XDG_CONFIG_HOME=/srv/config was set, and the program did not use it"),
        "{unused}"
    );
    let partly = notes(&[("TMPDIR", "/srv/tmp/")], Some(open("/srv/tmp/x", O_WRONLY | O_CREAT)));
    assert!(partly.contains("used it, but not for /run/k0s-*"), "{partly}");
    let used = notes(&[("XDG_RUNTIME_DIR", "/run")], None);
    assert!(!used.contains("XDG_RUNTIME_DIR"), "{used}");
    let elsewhere = notes(&[("HOME", "/srv/home")], Some(open("/root/.thing", 0)));
    assert!(
        elsewhere.contains("HOME=/srv/home was set") && elsewhere.contains("used /root/.thing instead"),
        "{elsewhere}"
    );
    assert_eq!(notes(&[("HOME", "/srv/home")], None), "");
}
