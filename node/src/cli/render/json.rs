//! One JSON object a line.

use serde::Serialize;

use crate::command::{CommandError, ErrorCode};

/// The value as one line of JSON.
pub fn line(value: &impl Serialize) -> Result<String, CommandError> {
    serde_json::to_string(value)
        .map_err(|error| CommandError::new(ErrorCode::Failed, format!("the result is not JSON: {error}")))
}
