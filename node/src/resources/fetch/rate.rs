//! How often one host may be asked, whoever asks: no crowd of guests becomes a flood on somebody's server.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// At most two requests a second go to one host, over all clients of this device.
pub const HOST_INTERVAL: Duration = Duration::from_millis(500);
/// At most five names a second are looked up for one client: a page has a handful of hosts, a search for names that a
/// network knows has thousands. *Judgement.*
pub const LOOKUP_INTERVAL: Duration = Duration::from_millis(200);
/// Hosts remembered at a time. One is forgotten as soon as it may be asked again, so this many hosts within half a
/// second (or queues to them) would be needed. *Judgement.*
const HOSTS: usize = 1_024;

/// When each host may be asked next. A host stands here under its name and under its addresses: many names for one
/// address, or many addresses for one name, make no more requests.
#[derive(Debug, Default)]
pub struct HostRate {
    next: HashMap<String, Instant>,
}

impl HostRate {
    /// Books the next free moment at which all of `keys` may be asked, each once in `every` ([`HOST_INTERVAL`]). `None` when that is later than `deadline`, or
    /// when too many hosts are remembered: then nothing is booked.
    pub fn book(&mut self, keys: &[&str], every: Duration, now: Instant, deadline: Instant) -> Option<Instant> {
        if self.next.len() + keys.len() > HOSTS {
            self.next.retain(|_, next| *next > now);
            if self.next.len() + keys.len() > HOSTS {
                return None;
            }
        }
        let at = keys.iter().filter_map(|key| self.next.get(*key)).copied().fold(now, Instant::max);
        if at > deadline {
            return None;
        }
        for key in keys {
            self.next.insert((*key).to_owned(), at + every);
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b69_a_thousand_fetches_from_ten_clients_are_two_a_second() {
        let start = Instant::now();
        let mut rate = HostRate::default();
        let mut sent: Vec<Duration> = Vec::new();
        // Ten clients ask again as soon as they were answered or refused, for 500 virtual seconds and more.
        let mut clients = [start; 10];
        for _ in 0..1_000 {
            let client = clients.iter_mut().min().unwrap();
            let now = *client;
            match rate.book(&["example.org", "93.184.216.34"], HOST_INTERVAL, now, now + Duration::from_secs(20)) {
                Some(at) => {
                    assert!(at >= now);
                    sent.push(at - start);
                    *client = at;
                }
                None => *client = now + Duration::from_secs(1),
            }
        }
        sent.sort();
        assert!(sent.len() > 900, "{}", sent.len());
        for window in sent.windows(3) {
            assert!(window[2] - window[0] >= Duration::from_secs(1), "{window:?}");
        }
    }

    #[test]
    fn names_and_addresses_are_both_rationed() {
        let (now, mut rate) = (Instant::now(), HostRate::default());
        let deadline = now + Duration::from_secs(1);
        assert_eq!(rate.book(&["a.example", "1.1.1.1"], HOST_INTERVAL, now, deadline), Some(now));
        // Another name of the same address, another address of the same name.
        assert_eq!(rate.book(&["b.example", "1.1.1.1"], HOST_INTERVAL, now, deadline), Some(now + HOST_INTERVAL));
        assert_eq!(rate.book(&["a.example", "2.2.2.2"], HOST_INTERVAL, now, deadline), Some(now + HOST_INTERVAL));
        assert_eq!(rate.book(&["c.example", "3.3.3.3"], HOST_INTERVAL, now, deadline), Some(now));
        // A queue that would last beyond the deadline takes nobody more.
        assert_eq!(rate.book(&["b.example", "1.1.1.1"], HOST_INTERVAL, now, deadline), Some(now + 2 * HOST_INTERVAL));
        assert_eq!(rate.book(&["b.example", "1.1.1.1"], HOST_INTERVAL, now, deadline), None);
    }

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let (now, mut rate) = (Instant::now(), HostRate::default());
        let deadline = now + Duration::from_secs(20);
        for host in 0..HOSTS {
            assert!(rate.book(&[&host.to_string()], HOST_INTERVAL, now, deadline).is_some());
        }
        assert_eq!(rate.book(&["one more"], HOST_INTERVAL, now, deadline), None);
        let later = now + HOST_INTERVAL;
        assert_eq!(rate.book(&["one more"], HOST_INTERVAL, later, deadline), Some(later));
        assert_eq!(rate.next.len(), 1);
    }
}
