//! Starts the program as the target user, supervises it, and stops its whole tree.
