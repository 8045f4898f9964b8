//! The sandbox with real children: honest guests, hostile ones, its walls, and what it leaves behind.

mod asks;
mod blur;
#[cfg(target_os = "linux")]
mod ceiling;
mod guests;
mod gzip;
mod hostile;
mod hostile_wasm;
mod modules;
mod pool;
mod rig;
mod sharing;
mod splits;
mod together;
mod types;
#[cfg(target_os = "linux")]
mod walls;
mod wasm;
mod web;
