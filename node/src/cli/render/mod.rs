//! Replies, events and errors as people and scripts see them.
//!
//! [`table`] lays out columns, [`reply`] shows replies for people, [`json`] for scripts; [`progress`] shows what
//! happens meanwhile; [`error`] shows what went wrong, [`source`] where; [`grants`] what guests may do and did. [`text`]
//! makes strangers' words safe to print.

pub mod error;
pub mod grants;
pub mod json;
pub mod progress;
pub mod reply;
pub mod source;
pub mod table;
pub mod text;
pub mod trust;
