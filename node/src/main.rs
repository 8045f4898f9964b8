//! The `msm` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread and any argument parsing: a sandbox child is this same program, and nothing else of it.
    msm_sandbox::run_if_child();
    msm_node::cli::main()
}
