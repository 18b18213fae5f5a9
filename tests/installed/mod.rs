//! What is tried as itself, and a machine may lack.
#![expect(clippy::print_stderr, reason = "who skips something says so")]

/// Gives what was found on this machine. Where it was not, that is said, and what needs it is skipped; but where all tests have to run (`CI` or
/// `ROOMKEEPER_CI` is set) it fails.
pub fn if_there<T>(found: Option<T>, what: &str, package: &str) -> Option<T> {
    if found.is_none() {
        let wanted = ["CI", "ROOMKEEPER_CI"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!wanted, "there is no {what} on this machine, and its tests have to run: apt-get install {package}");
        eprintln!("skipped: there is no {what} on this machine: apt-get install {package}");
    }
    found
}
