//! From requirements to the grants that meet them.
