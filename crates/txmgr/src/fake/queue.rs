//! SQS in memory: visibility timeouts in simulated time, receive counts and a dead-letter queue; group locks and
//! deduplication on FIFO queues; duplicates and reordering on standard queues.
//!
//! Bodies are opaque here. A message leaves the queue only when it is deleted or received too often.
//! Read next: [`super::topic`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::SimClock;
use super::interceptor::{FakeFault, Interceptor, refused};
use super::journal::{Entry, Journal};
use crate::inbox::{Inbox, Incoming};
use crate::ports::{BroadcastQueue, PortError, ResignQueue};
use crate::text;
use crate::wire::{LanePoke, SignerPoke};

/// SQS's deduplication interval, in milliseconds.
pub(super) const DEDUP_MS: u64 = 300_000;
/// The maximum size of a message: 1 MiB on SQS.
const MAX_SQS_BYTES: usize = 1_048_576;
/// A standard queue with disorder delivers any of this many oldest messages next.
const DISORDER: u64 = 8;
/// The maximum number of messages of one receive, as on SQS.
const RECEIVE_MAX: usize = 10;

/// The behaviour of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRules {
    /// Whether it is a FIFO queue; otherwise it is a standard queue.
    pub fifo: bool,
    /// How long a received message is invisible, in milliseconds.
    pub visibility_ms: u64,
    /// After this many receives a message goes to the dead-letter queue.
    pub max_receives: u32,
    /// Standard queue: one message in this many is delivered twice (0: none).
    pub repeat_one_in: u64,
    /// The seed for the order of a standard queue, or for the choice of the group on a FIFO queue. With 0, the order is
    /// kept, and a FIFO queue chooses the group with the oldest message.
    pub disorder_seed: u64,
}

impl QueueRules {
    /// FIFO, 30 s, and five receives before the dead-letter queue.
    pub const FIFO: Self =
        Self { fifo: true, visibility_ms: 30_000, max_receives: 5, repeat_one_in: 0, disorder_seed: 0 };
    /// Standard without duplicates.
    pub const STANDARD: Self = Self { fifo: false, ..Self::FIFO };
}

#[derive(Debug)]
struct QueuedMessage {
    message_id: String,
    body: String,
    group: Option<String>,
    sender: Option<String>,
    received: u32,
}

/// The messages of a queue by place (order of sending). A group is locked while a message of it is in flight.
#[derive(Debug, Default)]
struct QueueState {
    waiting: BTreeMap<u64, QueuedMessage>,
    /// FIFO: the places of each group that are not in flight.
    groups: BTreeMap<String, VecDeque<u64>>,
    /// FIFO: the groups that are not locked, by their first place.
    ready: BTreeSet<(u64, String)>,
    /// Standard: the places that are not in flight.
    visible: BTreeSet<u64>,
    /// The messages in flight: from handle to (time of visibility, place).
    in_flight: BTreeMap<u64, (u64, u64)>,
    timeouts: BTreeSet<(u64, u64)>,
    locked: BTreeMap<String, usize>,
    dead: Vec<QueuedMessage>,
    dedup: BTreeMap<String, u64>,
    dedup_order: VecDeque<(u64, String)>,
    next_place: u64,
    next_handle: u64,
    random: u64,
}

/// A queue in memory.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    name: &'static str,
    rules: QueueRules,
    state: Arc<Mutex<QueueState>>,
    clock: SimClock,
    interceptor: Interceptor,
    journal: Journal,
}

impl MemoryQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(
        name: &'static str,
        rules: QueueRules,
        clock: SimClock,
        interceptor: Interceptor,
        journal: Journal,
    ) -> Self {
        let state = QueueState { random: rules.disorder_seed, ..QueueState::default() };
        Self { name, rules, state: Arc::new(Mutex::new(state)), clock, interceptor, journal }
    }

    /// Sends a message without passing the interceptor, and returns its id. Panics if SQS does not accept the body.
    /// `dedup` is the deduplication id on a FIFO queue; a duplicate is dropped, and the returned id belongs to no message.
    pub fn put(&self, body: &str, group: Option<&str>, dedup: Option<&str>, sender: Option<&str>) -> String {
        assert_eq!(text::unsendable(body), None, "SQS takes no such body");
        assert!(body.len() <= MAX_SQS_BYTES, "SQS takes no body of {} bytes", body.len());
        let now = self.clock.now().0;
        let mut state = self.state.lock().unwrap();
        let message_id = format!("{}-{}", self.name, state.next_place);
        let dropped = self.rules.fifo && dedup.is_some_and(|id| state.is_repeat(id, now));
        let copies = if dropped { 0 } else { 1 + usize::from(state.one_in(self.rules.repeat_one_in)) };
        state.next_place += 1;
        for _ in 0..copies {
            let place = state.next_place;
            state.next_place += 1;
            let group = group.filter(|_| self.rules.fifo).map(str::to_owned);
            let waiting = QueuedMessage {
                message_id: message_id.clone(),
                body: body.to_owned(),
                group,
                sender: sender.map(str::to_owned),
                received: 0,
            };
            state.waiting.insert(place, waiting);
            state.make_visible(place);
        }
        message_id
    }

    /// Delivers a deleted message once more: its deletion was lost, or a standard queue kept a copy. Skips the
    /// interceptor and deduplication.
    pub fn deliver_again(&self, message_id: &str, body: &str, group: Option<&str>, sender: Option<&str>) {
        let mut state = self.state.lock().unwrap();
        let place = state.next_place;
        state.next_place += 1;
        let waiting = QueuedMessage {
            message_id: message_id.to_owned(),
            body: body.to_owned(),
            group: group.filter(|_| self.rules.fifo).map(str::to_owned),
            sender: sender.map(str::to_owned),
            received: 1,
        };
        state.waiting.insert(place, waiting);
        state.make_visible(place);
    }

    /// Receives up to `max` messages and makes them invisible (`ReceiveMessage`).
    pub async fn receive_up_to(&self, max: usize) -> Result<Vec<Incoming>, PortError> {
        let pass = self.interceptor.enter("ReceiveMessage").await?;
        let now = self.clock.now().0;
        let messages = {
            let mut state = self.state.lock().unwrap();
            state.time_out(now);
            let mut messages = Vec::new();
            while messages.len() < max {
                let Some(place) = state.pick(&self.rules, messages.as_slice()) else { break };
                if let Some(message) = state.take(place, now + self.rules.visibility_ms, self.rules.max_receives) {
                    messages.push(message);
                }
            }
            messages
        };
        if !messages.is_empty() {
            let ids = || messages.iter().map(|message| message.message_id.clone()).collect();
            self.journal.note(|| Entry::Received(self.name, ids()));
        }
        pass.reply(messages).await
    }

    /// Deletes a message (`DeleteMessage`). `false`: the receipt handle is from an older delivery, and nothing was
    /// deleted.
    pub async fn delete_one(&self, receipt: &str) -> Result<bool, PortError> {
        let pass = self.interceptor.enter("DeleteMessage").await?;
        let gone = {
            let mut state = self.state.lock().unwrap();
            state.time_out(self.clock.now().0);
            state.end_delivery(number(receipt)).and_then(|place| {
                let gone = state.waiting.remove(&place);
                state.unlock(gone.as_ref().and_then(|gone| gone.group.clone()));
                gone
            })
        };
        if let Some(gone) = &gone {
            self.journal.note(|| Entry::Deleted(self.name, gone.message_id.clone(), gone.body.clone()));
        }
        pass.reply(gone.is_some()).await
    }

    /// Makes a message visible again at once (`ChangeMessageVisibility` with 0).
    pub async fn release(&self, receipt: &str) -> Result<bool, PortError> {
        let pass = self.interceptor.enter("ChangeMessageVisibility").await?;
        let released = self.state.lock().unwrap().give_back(number(receipt));
        pass.reply(released).await
    }

    /// Keeps a message invisible for `visibility_ms` from now (`ChangeMessageVisibility`: the heartbeat).
    pub async fn extend(&self, receipt: &str, visibility_ms: u64) -> Result<bool, PortError> {
        let pass = self.interceptor.enter("ChangeMessageVisibility").await?;
        let now = self.clock.now().0;
        let extended = {
            let mut state = self.state.lock().unwrap();
            state.time_out(now);
            state.extend(number(receipt), now + visibility_ms)
        };
        pass.reply(extended).await
    }

    /// Makes all messages in flight visible again, as after their timeouts.
    pub fn release_all(&self) {
        let mut state = self.state.lock().unwrap();
        state.time_out(u64::MAX);
    }

    /// The number of messages, including those in flight, without the dead letters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().unwrap().waiting.len()
    }

    /// Whether the queue has no messages, except dead letters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bodies in the dead-letter queue.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<String> {
        self.state.lock().unwrap().dead.iter().map(|dead| dead.body.clone()).collect()
    }

    /// Moves the dead letters back to the queue (`StartMessageMoveTask`).
    pub fn redrive(&self) {
        let mut state = self.state.lock().unwrap();
        for dead in std::mem::take(&mut state.dead) {
            let place = state.next_place;
            state.next_place += 1;
            state.waiting.insert(place, QueuedMessage { received: 0, ..dead });
            state.make_visible(place);
        }
    }

    /// Whether a message can be received now.
    #[must_use]
    pub fn has_visible(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.time_out(self.clock.now().0);
        !state.ready.is_empty() || !state.visible.is_empty()
    }

    /// When the next message in flight becomes visible again, in Unix milliseconds.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.state.lock().unwrap().timeouts.first().map(|(at, _)| *at)
    }

    async fn send_batch(
        &self,
        entries: impl Iterator<Item = (String, String)> + Send,
        noted: impl FnOnce() -> Entry + Send,
    ) -> Result<(), PortError> {
        const SEND: &str = "SendMessageBatch";
        let pass = self.interceptor.enter(SEND).await?;
        let mut failed = Ok(());
        for (group, body) in entries {
            if group.is_empty() {
                return Err(refused(SEND, FakeFault::Validation("MessageGroupId is missing")));
            }
            if let Err(error) = self.interceptor.takes(SEND, &body, 0) {
                failed = failed.and(Err(error));
                continue;
            }
            // Content-based deduplication, as on the queues of the stack.
            self.put(&body, Some(&group), Some(&body), None);
        }
        self.journal.note(noted);
        pass.reply(()).await?;
        failed
    }
}

/// Like SQS: at most ten messages per receive, and an error for a receipt handle of an older delivery.
impl Inbox for MemoryQueue {
    async fn receive(&self) -> Result<Vec<Incoming>, PortError> {
        self.receive_up_to(RECEIVE_MAX).await
    }

    async fn delete(&self, receipts: &[&str]) -> Result<(), PortError> {
        for receipt in receipts {
            current(self.delete_one(receipt).await?, "DeleteMessage")?;
        }
        Ok(())
    }

    async fn hold(&self, receipts: &[&str], time: Duration) -> Result<(), PortError> {
        for receipt in receipts {
            let held = match u64::try_from(time.as_millis()).unwrap_or(u64::MAX) {
                0 => self.release(receipt).await?,
                time_ms => self.extend(receipt, time_ms).await?,
            };
            current(held, "ChangeMessageVisibility")?;
        }
        Ok(())
    }
}

fn current(is_current: bool, operation: &'static str) -> Result<(), PortError> {
    if is_current {
        return Ok(());
    }
    Err(refused(operation, FakeFault::Validation("the receipt handle is of an older delivery")))
}

/// The number in a receipt handle of this queue. For any other text, a number that is never used.
fn number(receipt: &str) -> u64 {
    receipt.parse().unwrap_or(u64::MAX)
}

impl QueueState {
    fn is_repeat(&mut self, id: &str, now: u64) -> bool {
        while let Some((at, _)) = self.dedup_order.front()
            && *at <= now
        {
            if let Some((_, old)) = self.dedup_order.pop_front() {
                self.dedup.remove(&old);
            }
        }
        if self.dedup.contains_key(id) {
            return true;
        }
        self.dedup.insert(id.to_owned(), now + DEDUP_MS);
        self.dedup_order.push_back((now + DEDUP_MS, id.to_owned()));
        false
    }

    /// One step of `SplitMix64`.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, chance: u64) -> bool {
        chance != 0 && self.draw().is_multiple_of(chance)
    }

    /// Makes the message at a place receivable.
    fn make_visible(&mut self, place: u64) {
        let Some(group) = self.waiting.get(&place).and_then(|waiting| waiting.group.clone()) else {
            self.visible.insert(place);
            return;
        };
        let places = self.groups.entry(group.clone()).or_default();
        let old = places.front().copied();
        let at = places.partition_point(|other| *other < place);
        places.insert(at, place);
        let first = places.front().copied();
        if old != first {
            if let Some(old) = old {
                self.ready.remove(&(old, group.clone()));
            }
            self.make_ready(&group);
        }
    }

    fn make_ready(&mut self, group: &str) {
        if self.locked.contains_key(group) {
            return;
        }
        if let Some(first) = self.groups.get(group).and_then(VecDeque::front) {
            self.ready.insert((*first, group.to_owned()));
        }
    }

    /// Picks the next place to receive. Within one call, the group of the last message comes first.
    fn pick(&mut self, rules: &QueueRules, taken: &[Incoming]) -> Option<u64> {
        if rules.fifo {
            let mine = taken.last().and_then(|message| message.group.clone());
            let group = match mine.filter(|group| self.groups.get(group).is_some_and(|places| !places.is_empty())) {
                Some(group) => group,
                None if rules.disorder_seed == 0 => self.ready.first()?.1.clone(),
                None => {
                    let groups = u64::try_from(self.ready.len()).unwrap_or(u64::MAX);
                    let nth = usize::try_from(self.draw().checked_rem(groups)?).unwrap_or(0);
                    self.ready.iter().nth(nth)?.1.clone()
                }
            };
            let place = self.groups.get_mut(&group)?.pop_front()?;
            self.ready.remove(&(place, group.clone()));
            *self.locked.entry(group).or_default() += 1;
            return Some(place);
        }
        let skip = if rules.disorder_seed == 0 { 0 } else { self.draw() % DISORDER };
        let skip = usize::try_from(skip).unwrap_or(0).min(self.visible.len().saturating_sub(1));
        let place = self.visible.iter().nth(skip).copied()?;
        self.visible.remove(&place);
        Some(place)
    }

    /// Puts a picked message in flight, or moves it to the dead letters if it was received too often.
    fn take(&mut self, place: u64, visible_at: u64, max_receives: u32) -> Option<Incoming> {
        if self.waiting.get(&place)?.received >= max_receives {
            let dead = self.waiting.remove(&place)?;
            self.unlock(dead.group.clone());
            self.dead.push(dead);
            return None;
        }
        let handle = self.next_handle;
        self.next_handle += 1;
        self.in_flight.insert(handle, (visible_at, place));
        self.timeouts.insert((visible_at, handle));
        let waiting = self.waiting.get_mut(&place)?;
        waiting.received += 1;
        Some(Incoming {
            receipt: handle.to_string(),
            message_id: waiting.message_id.clone(),
            group: waiting.group.clone(),
            sender: waiting.sender.clone(),
            trace: None,
            receives: waiting.received,
            body: waiting.body.clone(),
        })
    }

    /// Ends a delivery. Returns the place of the message.
    fn end_delivery(&mut self, handle: u64) -> Option<u64> {
        let (visible_at, place) = self.in_flight.remove(&handle)?;
        self.timeouts.remove(&(visible_at, handle));
        Some(place)
    }

    fn give_back(&mut self, handle: u64) -> bool {
        let Some(place) = self.end_delivery(handle) else { return false };
        let group = self.waiting.get(&place).and_then(|waiting| waiting.group.clone());
        self.make_visible(place);
        self.unlock(group);
        true
    }

    fn extend(&mut self, handle: u64, visible_at: u64) -> bool {
        let Some(place) = self.end_delivery(handle) else { return false };
        self.in_flight.insert(handle, (visible_at, place));
        self.timeouts.insert((visible_at, handle));
        true
    }

    fn unlock(&mut self, group: Option<String>) {
        let Some(group) = group else { return };
        if let Some(held) = self.locked.get_mut(&group) {
            *held -= 1;
            if *held == 0 {
                self.locked.remove(&group);
            }
        }
        self.make_ready(&group);
        if self.groups.get(&group).is_some_and(VecDeque::is_empty) {
            self.groups.remove(&group);
        }
    }

    fn time_out(&mut self, now: u64) {
        while let Some((at, handle)) = self.timeouts.first().copied()
            && at <= now
        {
            self.give_back(handle);
        }
    }
}

/// The three queues of one deployment.
#[derive(Debug, Clone)]
pub struct MemoryQueues {
    /// Requests of the backends.
    pub signing: MemoryQueue,
    /// Pokes for lanes.
    pub broadcast: MemoryQueue,
    /// Pokes for the signer.
    pub resign: MemoryQueue,
}

impl MemoryQueues {
    /// The signing queue with the rules `signing`, and two FIFO queues.
    #[must_use]
    pub fn new(signing: QueueRules, clock: &SimClock, interceptor: &Interceptor, journal: &Journal) -> Self {
        let queue = |name, rules| MemoryQueue::new(name, rules, clock.clone(), interceptor.clone(), journal.clone());
        Self {
            signing: queue("signing", signing),
            broadcast: queue("broadcast", QueueRules::FIFO),
            resign: queue("resign", QueueRules::FIFO),
        }
    }
}

impl BroadcastQueue for MemoryQueues {
    async fn poke_lanes(&self, pokes: &[LanePoke]) -> Result<(), PortError> {
        let entries = pokes.iter().map(|poke| (poke.account.clone(), json(poke)));
        self.broadcast.send_batch(entries, || Entry::PokedLanes(pokes.to_vec())).await
    }
}

impl ResignQueue for MemoryQueues {
    async fn poke_signer(&self, pokes: &[SignerPoke]) -> Result<(), PortError> {
        let entries = pokes.iter().map(|poke| (poke.account.clone(), json(poke)));
        self.resign.send_batch(entries, || Entry::PokedSigner(pokes.to_vec())).await
    }
}

fn json(poke: &impl serde::Serialize) -> String {
    text::json(poke).expect("a poke has nothing JSON lacks")
}
