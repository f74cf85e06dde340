//! Where each path lies, for a program in a container.

use crate::container::Container;
use crate::requirement::{Need, Requirement};

/// Adds the placement of each need that is about a path.
pub fn add(requirements: &mut [Requirement], container: &Container) {
    for requirement in requirements {
        let path = match &requirement.need {
            Need::Path { path, .. } | Need::Device { path, .. } => Some(path),
            Need::Identity { path, .. } => path.as_ref(),
            _ => None,
        };
        requirement.evidence.placement = path.and_then(|path| container.placement(path));
    }
}
