//! The eBPF backend: loads the probe, marks the tree, delivers records.
