//! The tree of paths that are needed.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::words::{text, verdict_of, verdict_words};
use crate::RawText;
use crate::emit::table::rows::access_of;
use crate::grants::Grants;
use crate::profile::Profile;
use crate::requirement::{Need, Requirement};

/// A directory of the tree, or a need.
#[derive(Default)]
struct Node<'a> {
    children: BTreeMap<Vec<u8>, Node<'a>>,
    need: Option<(usize, &'a Requirement)>,
}

/// The tree goes no deeper, since it is walked by recursion; the rest of a path is one name.
const DEEPEST: usize = 256;

/// The section.
pub(super) fn section(profile: &Profile, grants: &Grants) -> Markup {
    let mut root = Node::default();
    for (n, requirement) in profile.requirements.iter().enumerate() {
        if let Need::Path { path, .. } | Need::Device { path, .. } = &requirement.need {
            let parts = path.as_bytes().splitn(DEEPEST, |byte| *byte == b'/').filter(|part| !part.is_empty());
            let node = parts.fold(&mut root, |node, part| node.children.entry(part.to_vec()).or_default());
            node.need = Some((n, requirement));
        }
    }
    if root.children.is_empty() {
        return html! {};
    }
    html! {
        section #paths {
            h2 { "Paths" }
            ul.tree { @for (name, node) in &root.children { (branch(b"/", name, node, grants)) } }
        }
    }
}

/// A node; directories with a single entry and no need of their own share a line with it.
fn branch(lead: &[u8], name: &[u8], node: &Node<'_>, grants: &Grants) -> Markup {
    let mut label = [lead, name].concat();
    let mut node = node;
    while node.need.is_none() && node.children.len() == 1 {
        let Some((name, child)) = node.children.iter().next() else { break };
        label.push(b'/');
        label.extend(name);
        node = child;
    }
    let label = text(&RawText::new(label).to_text());
    html! {
        li {
            @match node.need {
                Some((id, requirement)) => {
                    @let (class, words) = verdict_words(verdict_of(requirement, grants));
                    a class={ "leaf " (class) } href={ "#need-" (id) } title=(words) {
                        code { (label) } @if !node.children.is_empty() { "/" }
                        " " span.tags { @for access in access_of(requirement) { span.tag { (text(&access)) } } }
                    }
                },
                None => code.quiet { (label) "/" },
            }
            @if !node.children.is_empty() {
                ul { @for (name, child) in &node.children { (branch(b"", name, child, grants)) } }
            }
        }
    }
}
