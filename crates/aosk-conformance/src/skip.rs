//! Tests that cannot run everywhere.

/// Says loudly that a test could not run here.
///
/// # Panics
/// Where `AOSK_TEST_REQUIRE` is set: there everything must run.
#[expect(clippy::print_stderr, reason = "a test reports this way")]
pub fn skip(why: &str) {
    assert!(std::env::var_os("AOSK_TEST_REQUIRE").is_none(), "must not be skipped: {why}");
    eprintln!("SKIPPED: {why}");
}
