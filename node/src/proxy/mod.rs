//! `msm proxy`: a browser's way to pages that neighbours fetch. Read in this order:
//!
//! 1. [`asked`]: what a request means, and which are refused. Pure.
//! 2. [`answer`]: an HTTP message from the service as an answer. Pure. [`pages`]: what people read when there is none.
//! 3. [`serve`]: connections, and a job for each page.

mod answer;
mod asked;
mod pages;
mod serve;

pub use serve::{LISTEN, Proxy};
