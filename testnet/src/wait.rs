//! Waiting for something to become true, never longer than said.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `look` gives something, at most for `limit`; returns it and how long it took.
///
/// # Errors
/// `what` did not come to pass in time; the last error of `look` is in the text.
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let started = Instant::now();
    loop {
        let seen = look();
        let took = started.elapsed();
        match seen {
            Ok(Some(value)) => return Ok((value, took)),
            Ok(None) if took >= limit => bail!("{what}: not within {limit:?}"),
            Err(error) if took >= limit => return Err(error.context(format!("{what}: not within {limit:?}"))),
            Ok(None) | Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends() {
        let mut looks = 0;
        let (value, _) = until(Duration::from_secs(5), "third look", || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        })
        .unwrap();
        assert_eq!(value, 3);
        let error = until::<()>(Duration::ZERO, "never", || bail!("reason")).unwrap_err();
        assert_eq!(format!("{error:#}"), "never: not within 0ns: reason");
    }
}
