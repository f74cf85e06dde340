//! Kubernetes: a Pod of its own, and a patch for the user's manifest.

mod confined;
mod level;
mod parts;
mod patch;
mod remarks;

use super::escape::yaml::string;
use super::page::{Emitted, Page, reason};
use super::table::proved::trials;
use super::volumes;
use crate::grants::{Grants, Unmet};
use crate::profile::Profile;
pub use confined::{Confined, EmptyDir, confined};
pub use level::Level;

pub use patch::{LISTS, PatchError, Target, documents, patch, pod_path};

use parts::{At, Parts};

/// The manifest `kubernetes.yaml`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Page::new(&format!("A Pod that runs {} without root.", grants.name));
    let volumes = volumes::plan(profile, grants);
    let name = object_name(&grants.name);
    let parts = Parts { profile, grants, volumes: &volumes, low_ports: true, prefix: "" };
    parts.level(&mut page, &[]);
    let proof = profile.proof.as_ref().filter(|proof| proof.lives);
    let tried = proof.and_then(|proof| proof.image.as_ref());
    if let Some((proof, image)) = proof.zip(tried) {
        let built = if image.built { " with the lines of Containerfile" } else { ", as it is" };
        let what = match &image.namespace {
            Some(namespace) => {
                format!("the patch of a pod of {} in namespace {namespace} of the cluster", image.name)
            }
            None => format!("a container of {}{built}", image.name),
        };
        page.comment(&format!(
            "Proved in {}, as {what}: it lives with this{}.",
            trials(proof.trials),
            untried(&proof.not_applied)
        ));
    }
    page.line("apiVersion: v1");
    page.line("kind: Pod");
    page.line("metadata:");
    page.line(&format!("  name: {}", string(&name)));
    page.line("spec:");
    parts.pod_context(&mut page, At(2), &Default::default(), true);
    let (image, about) = volumes::image(profile, &name);
    let about =
        if tried.is_some_and(|tried| !tried.built) { "The image of the run, as it is." } else { about };
    let image = string(&image);
    parts.init_containers(&mut page, At(2), &image);
    page.line("  containers:");
    page.line(&format!("    - name: {}", string(&name)));
    page.indented_comment(6, about);
    page.line(&format!("      image: {image}"));
    parts.command(&mut page, At(6));
    parts.environment(&mut page, At(6));
    parts.ports(&mut page, At(6));
    parts.container_context(&mut page, At(6), false, &Default::default());
    parts.mounts(&mut page, At(6));
    parts.volumes(&mut page, At(2));
    parts.remarks(&mut page);
    page.section("To change in the program's own configuration:", grants.to_configure().map(reason));
    page.section("Not granted, as the program does not depend on it:", grants.optional.iter().map(reason));
    let unmet: Vec<Unmet> =
        grants.unmet.iter().filter(|unmet| !volumes.met.contains(unmet)).cloned().collect();
    page.finish_with("kubernetes.yaml".into(), &unmet)
}

/// What no trial was about, to be said where it is called proved.
fn untried(what: &[String]) -> String {
    match what {
        [] => String::new(),
        what => format!(", but for what was not tried ({})", what.join("; ")),
    }
}

/// The level of the Pod Security Standards that a pod of the program reaches, and what stands in the way of the next.
pub fn pod_security(profile: &Profile, grants: &Grants) -> (Level, Vec<String>) {
    let volumes = volumes::plan(profile, grants);
    let parts = Parts { profile, grants, volumes: &volumes, low_ports: true, prefix: "" };
    parts.reached(&[])
}

/// A name that is a DNS label, RFC 1123.
fn object_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).take(63).collect();
    match label.trim_matches('-') {
        "" => "service".into(),
        label => label.to_owned(),
    }
}
