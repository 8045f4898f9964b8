//! Predicts how long a job takes on the first `k` devices, and picks the smallest `k` that is about as fast as any.
//!
//! The paper's equation for the number of devices is missing from its text; this one is ours. A device is a server of
//! some power behind a start-up delay; the requester's uplink is one more server, which every remote task passes first.
//! Equal tasks go, one after the other, to whichever device would finish them first, which is what pulling tends to.

use std::time::Duration;

use crate::plan;

/// A larger number of devices must save more than this: 5 % of the shortest prediction.
pub const TOLERANCE: f64 = 1.05;
/// Devices considered for one job; the manifest's own limit. Each adds to every prediction's cost.
pub const DEVICES_MAX: usize = 64;

/// A device as the prediction sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Server {
    /// Reference work per second: 1 is one task slot of a device with an EQS of 100.
    pub power: f64,
    /// Seconds before its first task can start.
    pub startup: f64,
    /// Its inputs cross the requester's uplink.
    pub remote: bool,
}

/// The work to be shared out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Most tasks that the input can be cut into.
    pub tasks: u32,
    /// Bytes of the whole input.
    pub bytes: u64,
    /// Seconds that a server of power 1 needs for all of it.
    pub work: f64,
    /// Bytes per second of the requester's uplink, if known.
    pub upload: Option<u64>,
}

/// Seconds until the last task ends on all of `servers`, which must not be empty.
pub fn makespan(servers: &[Server], load: &Load) -> f64 {
    let tasks = load.tasks.min(plan::tasks(servers.len() as u32, load.bytes)).max(1);
    let work = load.work / f64::from(tasks);
    let sending = load.upload.map_or(0.0, |rate| load.bytes as f64 / f64::from(tasks) / rate.max(1) as f64);
    let mut free: Vec<f64> = servers.iter().map(|server| server.startup).collect();
    let (mut uplink_free, mut end) = (0.0, 0.0_f64);
    for _ in 0..tasks {
        let arrives = uplink_free + sending;
        let finishes = servers.iter().zip(&free).map(|(server, free)| {
            let starts = if server.remote { f64::max(*free, arrives) } else { *free };
            starts + work / server.power
        });
        let Some((best, at)) = finishes.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)) else { return f64::INFINITY };
        if let (Some(free), Some(server)) = (free.get_mut(best), servers.get(best)) {
            *free = at;
            if server.remote {
                uplink_free = arrives;
            }
        }
        end = end.max(at);
    }
    end
}

/// Predictions for the first 1, 2, … of `servers` (at most [`DEVICES_MAX`]).
pub fn predictions(servers: &[Server], load: &Load) -> Vec<Duration> {
    let servers = &servers[..servers.len().min(DEVICES_MAX)];
    let seconds = (1..=servers.len()).map(|k| makespan(&servers[..k], load));
    seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)).collect()
}

/// The smallest number of devices whose prediction is within [`TOLERANCE`] of the best; 0 for no predictions.
pub fn smallest_good(predictions: &[Duration]) -> usize {
    let Some(best) = predictions.iter().min() else { return 0 };
    let enough = best.as_secs_f64() * TOLERANCE;
    predictions.iter().position(|time| time.as_secs_f64() <= enough).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(power: f64, startup: f64, remote: bool) -> Server {
        Server { power, startup, remote }
    }

    const LOAD: Load = Load { tasks: 1_024, bytes: 0, work: 8.0, upload: None };

    #[test]
    fn equal_devices_share_equally() {
        for k in 1..=8 {
            let servers = vec![server(1.0, 0.0, true); k];
            assert!((makespan(&servers, &LOAD) - 8.0 / k as f64).abs() < 1e-9, "{k}");
        }
    }

    #[test]
    fn the_smallest_number_within_five_percent() {
        let cases: [(&[u64], usize); 6] = [
            (&[], 0),
            (&[100], 1),
            (&[100, 50, 49], 2),
            (&[100, 50, 47], 3),
            (&[104, 100, 120], 1),
            (&[200, 120, 130, 100, 99], 4),
        ];
        for (ms, expected) in cases {
            let times: Vec<Duration> = ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
            assert_eq!(smallest_good(&times), expected, "{ms:?}");
        }
    }

    #[test]
    fn start_up_and_uplink_limit_the_number() {
        let mut servers = vec![server(1.0, 0.0, false)];
        servers.resize(8, server(1.0, 0.0, true));
        assert_eq!(smallest_good(&predictions(&servers, &LOAD)), 8);

        // Work of 100 ms does not pay for a start-up of 200 ms.
        let short = Load { work: 0.1, ..LOAD };
        let slow_start: Vec<Server> =
            servers.iter().map(|s| if s.remote { server(1.0, 0.2, true) } else { *s }).collect();
        assert_eq!(smallest_good(&predictions(&slow_start, &short)), 1);

        // The slower the link, the fewer devices it can feed with 8 MB of input for 8 s of work.
        let through = |upload| smallest_good(&predictions(&servers, &Load { bytes: 8_000_000, upload, ..LOAD }));
        let counts = [None, Some(4_000_000), Some(1_000_000), Some(10_000)].map(through);
        assert!(counts.is_sorted_by(|a, b| a > b), "{counts:?}");
        assert_eq!((counts[0], counts[3]), (8, 1));
    }

    #[test]
    fn an_input_that_cannot_be_cut_goes_to_one_device() {
        let whole = Load { tasks: 1, ..LOAD };
        let equal = [server(1.0, 0.0, false), server(1.0, 0.0, true)];
        assert_eq!(smallest_good(&predictions(&equal, &whole)), 1);
        let better = [server(1.0, 0.0, false), server(3.0, 0.0, true)];
        assert_eq!(smallest_good(&predictions(&better, &whole)), 2);
    }

    /// For tasks that only wait for their device the greedy order is the best of all orders.
    #[test]
    fn greedy_equals_the_best_of_all_assignments() {
        let powers = [0.3, 0.5, 1.0, 1.7, 3.0];
        let startups = [0.0, 0.2, 1.0];
        for case in 0..200_usize {
            let pick = |salt: usize| case.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503) >> 3;
            let servers: Vec<Server> = (0..3)
                .map(|i| server(powers[pick(i) % powers.len()], startups[pick(i + 7) % startups.len()], i > 0))
                .collect();
            let tasks = 1 + (pick(99) % 6) as u32;
            let load = Load { tasks, ..LOAD };
            let mut best = f64::INFINITY;
            for code in 0..3_u32.pow(tasks) {
                let mut count = [0_u32; 3];
                (0..tasks).for_each(|task| count[(code / 3_u32.pow(task) % 3) as usize] += 1);
                let ends = servers.iter().zip(count).filter(|(_, n)| *n > 0);
                let end = ends.map(|(s, n)| s.startup + f64::from(n) * (8.0 / f64::from(tasks)) / s.power);
                best = best.min(end.fold(0.0, f64::max));
            }
            let greedy = makespan(&servers, &load);
            assert!((greedy - best).abs() < 1e-9, "{servers:?} {tasks} tasks: {greedy} against {best}");
        }
    }
}
