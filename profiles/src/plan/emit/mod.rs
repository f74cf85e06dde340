//! The files that bring an arrangement about, and the page that explains it.

mod kubernetes;
mod mounts;
mod page;
mod parts;
mod pod;
mod screen;
mod systemd;

use std::collections::BTreeMap;

use super::model::Arrangement;
use crate::emit::Emitted;

use parts::emitted;

pub use page::markdown;
pub use pod::Pod;
pub use screen::screen;

/// The manifests of components, by their index.
pub type Pods = BTreeMap<usize, Pod>;

/// All files: `sysusers.d` and `tmpfiles.d`, a drop-in and a Kubernetes patch for each component, the manifests that are
/// given as they are to be, and the page.
pub fn files(arrangement: &Arrangement, name: &str, pods: &Pods) -> Vec<Emitted> {
    let mut out = vec![systemd::sysusers(arrangement, name), systemd::tmpfiles(arrangement, name)];
    for component in 0..arrangement.components.len() {
        let pod = pods.get(&component);
        out.push(systemd::drop_in(arrangement, component));
        out.push(kubernetes::patch(arrangement, component, pod));
        out.extend(pod.map(|pod| pod.patched(arrangement, component)));
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
pub fn kubernetes(arrangement: &Arrangement, pods: &Pods) -> String {
    let patch = |component| kubernetes::patch(arrangement, component, pods.get(&component)).text;
    (0..arrangement.components.len()).map(patch).collect::<Vec<_>>().join("---\n")
}
