//! Slots for the guests of others, given out so that no client waits behind another one's crowd.
//!
//! [`FairQueue`] decides and knows no clock, no task and no lock; [`Slots`] lets its callers wait for the decision.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use msm_protocol::{PeerId, Refusal, RefusalCode};
use tokio::sync::oneshot;

/// Guests of one client that may wait: four streams with 64 attempts each. *Judgement*: the inputs that they hold are
/// bounded elsewhere, and a client with more streams than a node takes cannot have more than this either.
const WAITING_PER_CLIENT: usize = 256;

/// Names one guest from the moment that it asks until it leaves.
pub type Ticket = u64;

/// Who is next. The slot that comes free goes to the client with the fewest guests running, and among those to the one
/// that was served longest ago: of `n` clients that always have work each gets every `n`-th start.
///
/// Alone, a client may fill all slots: an idle slot helps nobody, and the next one that comes free is another's.
#[derive(Debug)]
pub struct FairQueue {
    free_slots: usize,
    free_mib: u32,
    clients: HashMap<PeerId, Client>,
    running: HashMap<Ticket, u32>,
    /// Counts everything that moves a client to the end of its row.
    turn: u64,
    last: Ticket,
}

#[derive(Debug, Default)]
struct Client {
    running: usize,
    /// When it was served last, or came.
    turn: u64,
    waiting: VecDeque<(Ticket, u32)>,
}

/// A client has as many guests waiting as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING_PER_CLIENT} tasks of this requester wait already")]
pub struct Full;

impl FairQueue {
    /// A queue for so many slots and so much memory.
    pub fn new(slots: usize, mib: u32) -> Self {
        let (clients, running) = (HashMap::new(), HashMap::new());
        Self { free_slots: slots, free_mib: mib, clients, running, turn: 0, last: 0 }
    }

    /// A guest of `client` that takes `mib` of memory wants to run.
    pub fn enter(&mut self, client: PeerId, mib: u32) -> Result<Ticket, Full> {
        self.turn += 1;
        // Who was away comes after those who are here: going and coming back gains nothing.
        let turn = self.turn;
        let client = self.clients.entry(client).or_insert_with(|| Client { turn, ..Client::default() });
        if client.waiting.len() >= WAITING_PER_CLIENT {
            return Err(Full);
        }
        self.last += 1;
        client.waiting.push_back((self.last, mib));
        Ok(self.last)
    }

    /// The guest that may start now. One that does not fit into the memory holds up those behind it: small ones that
    /// pass it for ever would starve it.
    pub fn start(&mut self) -> Option<Ticket> {
        if self.free_slots == 0 {
            return None;
        }
        let waiting = self.clients.values_mut().filter(|client| !client.waiting.is_empty());
        let next = waiting.min_by_key(|client| (client.running, client.turn))?;
        let &(ticket, mib) = next.waiting.front()?;
        self.free_mib = self.free_mib.checked_sub(mib)?;
        next.waiting.pop_front();
        next.running += 1;
        self.turn += 1;
        next.turn = self.turn;
        self.free_slots -= 1;
        self.running.insert(ticket, mib);
        Some(ticket)
    }

    /// A guest of `client` has ended, or does not want to run any more.
    pub fn leave(&mut self, client: PeerId, ticket: Ticket) {
        let Some(its) = self.clients.get_mut(&client) else { return };
        if let Some(mib) = self.running.remove(&ticket) {
            self.free_slots += 1;
            self.free_mib += mib;
            its.running -= 1;
        } else {
            its.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
        if its.running == 0 && its.waiting.is_empty() {
            self.clients.remove(&client);
        }
    }

    /// Slots that nobody uses.
    pub fn free(&self) -> usize {
        self.free_slots
    }
}

/// The slots of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// All memory there is for guests.
    mib: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: FairQueue,
    callers: HashMap<Ticket, oneshot::Sender<()>>,
}

impl State {
    /// Lets everybody start who may; true when `mine` is among them.
    fn start(&mut self, mine: Option<Ticket>) -> bool {
        let mut started = false;
        while let Some(ticket) = self.queue.start() {
            started |= mine == Some(ticket);
            if let Some(caller) = self.callers.remove(&ticket) {
                let _ = caller.send(());
            }
        }
        started
    }
}

impl Slots {
    /// So many slots, and memory for all their guests together.
    pub fn new(slots: usize, mib: u32) -> Self {
        let state = State { queue: FairQueue::new(slots, mib), callers: HashMap::new() };
        Self(Arc::new(Shared { mib, state: Mutex::new(state) }))
    }

    /// Waits for a slot and memory; both are free again when the guard is dropped. Dropping the future leaves the
    /// queue. Refused at once when too many guests of this client wait already.
    pub async fn acquire(&self, client: PeerId, guest_mib: u32) -> Result<SlotGuard, Refusal> {
        let (guard, called) = self.enter(client, guest_mib)?;
        if let Some(called) = called {
            // The sender is dropped with the guard only.
            let _ = called.await;
        }
        Ok(guard)
    }

    fn enter(&self, client: PeerId, mib: u32) -> Result<(SlotGuard, Option<oneshot::Receiver<()>>), Refusal> {
        let mut state = self.0.lock();
        // One that asks for more than there is waits for all of it, not for ever.
        let ticket = state.queue.enter(client, mib.min(self.0.mib));
        let ticket = ticket.map_err(|full| Refusal::new(RefusalCode::Busy, full.to_string()))?;
        let guard = SlotGuard { shared: self.0.clone(), client, ticket };
        if state.start(Some(ticket)) {
            return Ok((guard, None));
        }
        let (caller, called) = oneshot::channel();
        state.callers.insert(ticket, caller);
        Ok((guard, Some(called)))
    }

    /// Slots that nobody uses.
    pub fn free(&self) -> usize {
        self.0.lock().queue.free()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave the tables half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot, or a place in the queue for one. Dropping it gives the slot to the next.
#[derive(Debug)]
pub struct SlotGuard {
    shared: Arc<Shared>,
    client: PeerId,
    ticket: Ticket,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.callers.remove(&self.ticket);
        state.queue.leave(self.client, self.ticket);
        state.start(None);
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::SecretKey;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::of(&SecretKey::from_seed(&[n; 32]).public())
    }

    /// Runs `starts` guests one after the other on one slot, every client asking again as soon as it was served, and
    /// counts the starts of each; `backlog[n]` is how many guests client `n` always has waiting.
    fn served(backlog: &[usize], starts: usize) -> Vec<usize> {
        let mut queue = FairQueue::new(1, 100);
        let mut owner = HashMap::new();
        let enter = |queue: &mut FairQueue, owner: &mut HashMap<Ticket, usize>, client: usize| {
            owner.insert(queue.enter(peer(client as u8), 1).unwrap(), client);
        };
        for (client, count) in backlog.iter().enumerate() {
            (0..*count).for_each(|_| enter(&mut queue, &mut owner, client));
        }
        let mut counts = vec![0; backlog.len()];
        for _ in 0..starts {
            let ticket = queue.start().expect("somebody waits");
            assert_eq!(queue.start(), None, "one slot");
            let client = owner[&ticket];
            counts[client] += 1;
            // Ends first and asks again then: the smallest backlog leaves the table for a moment.
            queue.leave(peer(client as u8), ticket);
            enter(&mut queue, &mut owner, client);
        }
        counts
    }

    #[test]
    fn every_client_gets_its_share_however_many_tasks_the_others_have() {
        assert_eq!(served(&[1, 200, 7], 300), [100, 100, 100]);
        assert_eq!(served(&[200, 1], 100), [50, 50]);
        assert_eq!(served(&[3], 10), [10]);
    }

    #[test]
    fn a_slot_that_comes_free_goes_to_the_client_with_the_fewest_guests() {
        let mut queue = FairQueue::new(3, 100);
        let hog: Vec<Ticket> = (0..6).map(|_| queue.enter(peer(1), 1).unwrap()).collect();
        let first: Vec<Ticket> = std::iter::from_fn(|| queue.start()).collect();
        assert_eq!(first, hog[..3], "alone, it may have all");
        let others = [2, 3].map(|client| queue.enter(peer(client), 1).unwrap());
        queue.leave(peer(1), hog[0]);
        assert_eq!(queue.start(), Some(others[0]));
        queue.leave(peer(1), hog[1]);
        assert_eq!(queue.start(), Some(others[1]));
        queue.leave(peer(2), others[0]);
        assert_eq!(queue.start(), Some(hog[3]), "nobody else waits");
    }

    #[test]
    fn a_large_guest_is_not_passed_for_ever_by_small_ones() {
        let mut queue = FairQueue::new(4, 100);
        let small = queue.enter(peer(1), 40).unwrap();
        assert_eq!(queue.start(), Some(small));
        let large = queue.enter(peer(2), 90).unwrap();
        let next = queue.enter(peer(3), 10).unwrap();
        assert_eq!(queue.start(), None, "90 do not fit beside 40");
        queue.leave(peer(1), small);
        assert_eq!([queue.start(), queue.start(), queue.start()], [Some(large), Some(next), None]);
    }

    #[test]
    fn one_client_cannot_fill_the_table() {
        let mut queue = FairQueue::new(1, 100);
        for _ in 0..WAITING_PER_CLIENT {
            queue.enter(peer(1), 1).unwrap();
        }
        assert_eq!(queue.enter(peer(1), 1), Err(Full));
        assert!(queue.enter(peer(2), 1).is_ok());
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let mut queue = FairQueue::new(1, 100);
        let [one, two] = [1, 2].map(|client| queue.enter(peer(client), 60).unwrap());
        assert_eq!(queue.start(), Some(one));
        queue.leave(peer(2), two);
        queue.leave(peer(1), one);
        queue.leave(peer(1), one);
        assert!(queue.clients.is_empty() && queue.running.is_empty());
        assert_eq!((queue.free_slots, queue.free_mib), (1, 100));
    }

    #[tokio::test]
    async fn whoever_goes_away_gives_the_slot_on() {
        let slots = Slots::new(1, 100);
        let first = slots.acquire(peer(1), 1).await.unwrap();
        let mut second = Box::pin(slots.acquire(peer(2), 500));
        let mut third = Box::pin(slots.acquire(peer(3), 1));
        assert!(poll_once(&mut second).is_none() && poll_once(&mut third).is_none());
        drop(first);
        // The second was called, and goes away before it hears of it.
        drop(second);
        let third = third.await.unwrap();
        assert_eq!(slots.free(), 0);
        drop(third);
        assert_eq!(slots.free(), 1);
        assert!(slots.0.lock().callers.is_empty());
    }

    /// Polls once.
    fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
