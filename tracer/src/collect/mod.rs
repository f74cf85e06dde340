//! From records to events: symbols, paths, pairing of checks with calls, folding of equal events.
