//! The sandbox with real children: honest guests, hostile ones, its walls, and what it leaves behind.

mod blur;
mod guests;
mod hostile;
mod pool;
mod rig;
mod splits;
#[cfg(target_os = "linux")]
mod walls;
