//! What the derives refuse, with the messages that the user sees.
//!
//! `TRYBUILD=overwrite cargo test ui` rewrites the expectations; read what changed. They hold the
//! words of the compiler, so they are compared on the release that the workspace asks for.

#![cfg(feature = "derive")]

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/*.rs");
}
