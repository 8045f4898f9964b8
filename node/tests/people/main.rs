//! The `msm` program as scripts and people see it: exit codes, JSON, streams, signals, a real terminal.

mod program;
mod scripts;
mod services;
mod terminal;
mod toolchain;
