//! What is set for the whole machine at boot: sysctl.d(5), modules-load.d(5).

use super::page::{Emitted, Page};
use crate::grants::Grants;

/// The file for `/etc/sysctl.d`. Names and values were checked to be plain when they were granted.
pub(super) fn sysctl(grants: &Grants) -> Emitted {
    let mut page =
        Page::new(&format!("sysctl.d: kernel parameters that {} sets when it is root", grants.name));
    page.comment("They hold for the whole machine. Apply with: sysctl -p FILE");
    for (name, sysctl) in &grants.sysctls {
        page.blank();
        page.why(&sysctl.why);
        page.line(&format!("{name} = {}", sysctl.value));
    }
    page.finish(format!("sysctl.d/nrtrace-{}.conf", grants.name))
}

/// The file for `/etc/modules-load.d`.
pub(super) fn modules(grants: &Grants) -> Emitted {
    let mut page =
        Page::new(&format!("modules-load.d: kernel modules that {} loads when it is root", grants.name));
    for (name, why) in &grants.modules {
        page.blank();
        page.why(why);
        page.line(name);
    }
    page.finish(format!("modules-load.d/nrtrace-{}.conf", grants.name))
}
