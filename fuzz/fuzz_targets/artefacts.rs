#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nrtrace_tests::readers::artefacts(bytes));
