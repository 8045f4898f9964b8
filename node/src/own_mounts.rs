//! For tests: runs a test again in a mount namespace of its own, where it may mount what it needs.

use std::process::Command;

const MARK: &str = "MSM_TEST_OWN_MOUNTS";

/// True inside the namespace, after the shell commands in `setup`. Outside, runs `test` (its whole path) inside, demands
/// that it passes, and returns false. Where the kernel forbids user namespaces, says so and returns false.
pub(crate) fn inside(test: &str, setup: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let unshare = |arguments: &[&str]| Command::new("unshare").arg("-Urm").args(arguments).env(MARK, "1").output();
    if !unshare(&["mount", "-t", "tmpfs", "none", "/mnt"]).is_ok_and(|output| output.status.success()) {
        eprintln!("{test}: not shown here, because user namespaces are not allowed");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("{setup}\nexec \"$0\" --exact \"$1\" --nocapture");
    let output = unshare(&["sh", "-ec", &script, program.to_str().unwrap(), test]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test is called {test}:\n{text}");
    false
}
