//! The readers on what fuzzing has found, and on real files cut off and damaged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

use nrtrace_tests::readers::ALL;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn no_reader_panics_on_what_fuzzing_found() {
    for reader in ALL {
        let directory = root().join("fuzz/corpus").join(reader.name);
        let mut inputs = 0;
        for entry in fs::read_dir(&directory).unwrap() {
            (reader.read)(&fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", directory.display());
    }
}
