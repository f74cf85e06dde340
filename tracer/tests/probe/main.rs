//! The probe on the running kernel: what it records of small programs. Needs root and BTF, and fails without.

mod cost;
mod paths;
mod processes;
mod records;
mod tracee;
