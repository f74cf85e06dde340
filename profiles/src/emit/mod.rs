//! The files that grant.
