//! Resource limits and priorities: the service starts with what it asks for.

use crate::grants::{Act, Grants, LimitGrant, Way, Why};
use crate::requirement::{Limit, Requirement};

/// Meets a need for a limit or a priority.
pub(super) fn meet(requirement: &Requirement, limit: Limit, value: Option<i64>, grants: &mut Grants) {
    let raise = |limit, value, because: &str| {
        Way::new(Act::Limit(limit, LimitGrant { value, why: Why::default() }), because)
    };
    let asks = "started with the limit it asks for";
    let way = match (limit, value) {
        (Limit::Nice, Some(value)) => {
            Way::new(Act::Nice(value.clamp(-20, 19)), "started with the priority it asks for")
        }
        (Limit::OomScore, Some(value)) => {
            Way::new(Act::OomScore(value.clamp(-1000, 1000)), "started with the score it asks for")
        }
        (Limit::Scheduling, value) => {
            let value = value.and_then(|value| u64::try_from(value).ok());
            let value = value.filter(|value| (1..=99).contains(value)).unwrap_or(99);
            raise(Limit::RealtimePriority, Some(value), "lets it take a real-time priority")
        }
        (Limit::LockedMemory, None) => raise(limit, None, "it locks memory; how much is not known"),
        (_, None) => Way::setting(
            "it makes do with less where this is refused; else raise it in the unit to what its manual asks for",
        ),
        (_, Some(i64::MAX)) => raise(limit, None, asks),
        (_, Some(value)) => raise(limit, Some(u64::try_from(value).unwrap_or(0)), asks),
    };
    grants.take(&requirement.id, way);
}
