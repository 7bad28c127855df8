//! A deterministic executor: polls boxed futures one at a time, in an order its seed decides, in
//! simulated time that jumps when everyone sleeps.
//!
//! Knows nothing of what the futures do. A task that dies loses its future and all it held, and
//! starts anew after a while. Read next: [`crate::world`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use signpost_txmgr::fake::SimClock;

use crate::random::Random;

/// What a task is made of, again after each death.
pub type Start = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

/// How a task speaks to the stage while it is polled.
#[derive(Debug, Clone)]
pub struct Prompter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SimClock,
    wake_at: AtomicU64,
    doomed: AtomicBool,
}

impl Prompter {
    /// A prompter of a stage with this clock.
    #[must_use]
    pub fn new(clock: SimClock) -> Self {
        Self(Arc::new(Shared { clock, wake_at: AtomicU64::new(0), doomed: AtomicBool::new(false) }))
    }

    /// Waits so long in simulated time.
    pub fn sleep(&self, ms: u64) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.0);
        let until = shared.clock.now().0 + ms;
        poll_fn(move |_| {
            if shared.clock.now().0 >= until {
                return Poll::Ready(());
            }
            shared.wake_at.store(until, Ordering::Relaxed);
            Poll::Pending
        })
    }

    /// The task that is polled now is to die when it has been polled.
    pub fn doom(&self) {
        self.0.doomed.store(true, Ordering::Relaxed);
    }

    /// Whether a death was ordered; takes the order.
    pub fn take_doom(&self) -> bool {
        self.0.doomed.swap(false, Ordering::Relaxed)
    }

    fn take_wake_at(&self) -> u64 {
        self.0.wake_at.swap(0, Ordering::Relaxed)
    }
}

struct Task {
    name: &'static str,
    start: Start,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    asleep_until: u64,
}

/// The tasks and their time.
pub struct Stage {
    prompter: Prompter,
    clock: SimClock,
    random: Random,
    tasks: Vec<Task>,
    /// How often a future was polled.
    pub polls: u64,
    /// How often a task died.
    pub deaths: u64,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("polls", &self.polls).field("deaths", &self.deaths).finish_non_exhaustive()
    }
}

impl Stage {
    /// Most simulated time between two polls, in milliseconds: what a call takes.
    const STEP_MAX_MS: u64 = 7;
    /// Most time until a dead task is back, in milliseconds.
    const RESTART_MAX_MS: u64 = 5_000;

    /// An empty stage.
    #[must_use]
    pub fn new(prompter: Prompter, clock: SimClock, random: Random) -> Self {
        Self { prompter, clock, random, tasks: Vec::new(), polls: 0, deaths: 0 }
    }

    /// Adds a task.
    pub fn add(&mut self, name: &'static str, start: Start) {
        self.tasks.push(Task { name, start, future: None, asleep_until: 0 });
    }

    /// Polls one task that is awake, or lets time jump to the first waking; who was polled.
    pub fn step(&mut self) -> Option<&'static str> {
        let now = self.clock.now().0;
        let awake: u64 = self.tasks.iter().map(|task| u64::from(task.asleep_until <= now)).sum();
        if awake == 0 {
            let next = self.tasks.iter().map(|task| task.asleep_until).min()?;
            self.clock.advance(next - now);
            return None;
        }
        let nth = self.random.below(awake);
        self.clock.advance(self.random.below(Self::STEP_MAX_MS + 1));
        let mut awake = self.tasks.iter_mut().filter(|task| task.asleep_until <= now);
        let task = awake.nth(usize::try_from(nth).unwrap())?;
        self.polls += 1;
        let future = task.future.get_or_insert_with(|| (task.start)());
        let ended = future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let wake_at = self.prompter.take_wake_at();
        if self.prompter.take_doom() {
            self.deaths += 1;
            task.future = None;
            task.asleep_until = self.clock.now().0 + self.random.below(Self::RESTART_MAX_MS);
        } else if ended {
            task.future = None;
            task.asleep_until = u64::MAX;
        } else {
            task.asleep_until = wake_at;
        }
        Some(task.name)
    }
}

/// Polls one future until it ends, or until it is doomed: `None`. Time stands still unless it sleeps.
pub fn run_alone<T>(prompter: &Prompter, clock: &SimClock, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => return Some(value),
            Poll::Pending if prompter.take_doom() => return None,
            Poll::Pending => {
                let wake_at = prompter.take_wake_at();
                clock.advance(wake_at.saturating_sub(clock.now().0));
            }
        }
    }
}
