//! The files that bring an arrangement about, and the page that explains it.

mod kubernetes;
mod page;
mod parts;
mod systemd;

use super::model::Arrangement;
use crate::emit::Emitted;

use parts::emitted;

pub use page::markdown;

/// All files: `sysusers.d` and `tmpfiles.d`, a drop-in and a Kubernetes patch for each component, and the page.
pub fn files(arrangement: &Arrangement, name: &str) -> Vec<Emitted> {
    let mut out = vec![systemd::sysusers(arrangement, name), systemd::tmpfiles(arrangement, name)];
    for component in 0..arrangement.components.len() {
        out.push(systemd::drop_in(arrangement, component));
        out.push(kubernetes::patch(arrangement, component));
    }
    out.push(emitted(format!("{name}.md"), markdown(arrangement, name)));
    out
}

/// sysusers.d(5)
pub fn sysusers(arrangement: &Arrangement, name: &str) -> String {
    systemd::sysusers(arrangement, name).text
}

/// tmpfiles.d(5)
pub fn tmpfiles(arrangement: &Arrangement, name: &str) -> String {
    systemd::tmpfiles(arrangement, name).text
}

/// One document for each component.
pub fn kubernetes(arrangement: &Arrangement) -> String {
    let patches =
        (0..arrangement.components.len()).map(|component| kubernetes::patch(arrangement, component).text);
    patches.collect::<Vec<_>>().join("---\n")
}
