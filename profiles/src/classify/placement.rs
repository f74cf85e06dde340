//! Where each path lies, for a program in a container.

use crate::container::Container;
use crate::requirement::{Need, Requirement};

/// Adds the placement of each need that is about a path, which is told by the name that lasts.
pub fn add(requirements: &mut [Requirement], container: &Container) {
    for requirement in requirements {
        let path = match &mut requirement.need {
            Need::Path { path, .. } | Need::Device { path, .. } => Some(path),
            Need::Identity { path, .. } => path.as_mut(),
            _ => None,
        };
        let Some(path) = path else { continue };
        *path = container.steady(path);
        requirement.evidence.placement = container.placement(path);
        if let Some(at) = &mut requirement.evidence.refused_at {
            *at = container.steady(at);
        }
        requirement.id = requirement.need.id();
    }
}
