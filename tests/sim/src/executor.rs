//! A deterministic executor: it polls boxed futures one at a time, in an order that its seed decides. Simulated time
//! jumps forward when all tasks sleep.
//!
//! It knows nothing of what the futures do. A crashed task loses its future and all that the future held, and restarts
//! after a while. Read next: [`crate::deployment`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use signpost_txmgr::fake::SimClock;

use crate::random::Random;

/// Makes a task's future, again after each crash.
pub type Start = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

/// How a task calls the executor while it is polled.
#[derive(Debug, Clone)]
pub struct ExecutorHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SimClock,
    /// When the current task wakes, if it sleeps.
    wake_at: Mutex<Option<u64>>,
    crash_ordered: AtomicBool,
    /// Sleeping futures by wake time: a task may hold futures that are polled only when they were woken.
    sleepers: Mutex<Vec<(u64, Waker)>>,
}

impl ExecutorHandle {
    /// A handle of an executor with this clock.
    #[must_use]
    pub fn new(clock: SimClock) -> Self {
        let (wake_at, crash_ordered) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Shared { clock, wake_at, crash_ordered, sleepers: Mutex::default() }))
    }

    /// Sleeps for `ms` of simulated time.
    pub fn sleep(&self, ms: u64) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.0);
        let until = shared.clock.now().0 + ms;
        poll_fn(move |context| {
            if shared.clock.now().0 >= until {
                return Poll::Ready(());
            }
            let mut sleepers = shared.sleepers.lock().unwrap();
            if !sleepers.iter().any(|(at, waker)| *at == until && waker.will_wake(context.waker())) {
                sleepers.push((until, context.waker().clone()));
            }
            // If several futures of one task sleep, the first wake time counts.
            let mut wake_at = shared.wake_at.lock().unwrap();
            *wake_at = Some(wake_at.map_or(until, |at| at.min(until)));
            Poll::Pending
        })
    }

    /// Crashes the current task after this poll.
    pub fn crash_current(&self) {
        self.0.crash_ordered.store(true, Ordering::Relaxed);
    }

    /// Whether a crash was ordered; clears the order.
    pub fn take_crash(&self) -> bool {
        self.0.crash_ordered.swap(false, Ordering::Relaxed)
    }

    /// Wakes the futures whose time has come.
    fn wake_due(&self) {
        let now = self.0.clock.now().0;
        let mut sleepers = self.0.sleepers.lock().unwrap();
        if sleepers.iter().any(|(until, _)| *until <= now) {
            let (due, asleep) = std::mem::take(&mut *sleepers).into_iter().partition(|(until, _)| *until <= now);
            *sleepers = asleep;
            let due: Vec<(u64, Waker)> = due;
            for (_, waker) in due {
                waker.wake();
            }
        }
    }

    /// When the first sleeping future wakes.
    fn first_due(&self) -> Option<u64> {
        self.0.sleepers.lock().unwrap().iter().map(|(until, _)| *until).min()
    }

    fn take_wake_at(&self) -> u64 {
        self.0.wake_at.lock().unwrap().take().unwrap_or(0)
    }
}

/// Notes that part of a task is ready while other parts of it sleep.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    name: &'static str,
    life: u64,
    start: Start,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    asleep_until: u64,
}

/// The tasks and their clock.
pub struct Executor {
    handle: ExecutorHandle,
    clock: SimClock,
    random: Random,
    tasks: Vec<Task>,
    woken: Arc<Woken>,
    /// The most simulated time between two polls, in milliseconds.
    step_max_ms: u64,
    /// How often a future was polled.
    pub polls: u64,
    /// How often a task crashed.
    pub crashes: u64,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("polls", &self.polls).field("crashes", &self.crashes).finish_non_exhaustive()
    }
}

impl Executor {
    /// The most simulated time between two polls, in milliseconds: the latency of a call.
    const STEP_MAX_MS: u64 = 7;
    /// The most time until a crashed task restarts, in milliseconds.
    const RESTART_MAX_MS: u64 = 5_000;

    /// An empty executor.
    #[must_use]
    pub fn new(handle: ExecutorHandle, clock: SimClock, random: Random) -> Self {
        let (woken, step_max_ms) = (Arc::default(), Self::STEP_MAX_MS);
        Self { handle, clock, random, tasks: Vec::new(), woken, step_max_ms, polls: 0, crashes: 0 }
    }

    /// The same, but time passes only while all tasks sleep: for calls with a latency of their own.
    #[must_use]
    pub fn with_instant_polls(self) -> Self {
        Self { step_max_ms: 0, ..self }
    }

    /// Adds a task.
    pub fn add(&mut self, name: &'static str, start: Start) {
        self.tasks.push(Task { name, life: 0, start, future: None, asleep_until: 0 });
    }

    /// Polls one task that is awake, or advances time to the next wake. Returns the polled task's name and how often it
    /// had restarted.
    pub fn step(&mut self) -> Option<(&'static str, u64)> {
        let now = self.clock.now().0;
        let awake: u64 = self.tasks.iter().map(|task| u64::from(task.asleep_until <= now)).sum();
        if awake == 0 {
            let next = self.tasks.iter().map(|task| task.asleep_until).min()?;
            self.clock.advance(next - now);
            return None;
        }
        let nth = self.random.below(awake);
        self.clock.advance(self.random.below(self.step_max_ms + 1));
        let mut awake = self.tasks.iter_mut().filter(|task| task.asleep_until <= now);
        let task = awake.nth(usize::try_from(nth).unwrap())?;
        self.polls += 1;
        let future = task.future.get_or_insert_with(|| (task.start)());
        self.handle.wake_due();
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        let ended = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let woken = self.woken.0.swap(false, Ordering::Relaxed);
        let wake_at = self.handle.take_wake_at();
        let wake_at = if woken { 0 } else { wake_at };
        let polled = (task.name, task.life);
        if self.handle.take_crash() {
            self.crashes += 1;
            task.life += 1;
            task.future = None;
            task.asleep_until = self.clock.now().0 + self.random.below(Self::RESTART_MAX_MS);
        } else if ended {
            task.future = None;
            task.asleep_until = u64::MAX;
        } else {
            // A future inside of it may sleep without having been polled this time.
            let next_wake = (self.step_max_ms == 0 && !woken).then(|| self.handle.first_due()).flatten();
            task.asleep_until = next_wake.unwrap_or(wake_at);
        }
        Some(polled)
    }
}

/// Polls a future at most `polls` times, then drops it and returns `None`.
pub async fn limit_polls<T>(future: impl Future<Output = T>, polls: u64) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Awaits a future for `ms` of simulated time, then drops it and returns `None`.
pub async fn within<T>(handle: &ExecutorHandle, ms: u64, future: impl Future<Output = T>) -> Option<T> {
    let (mut over, mut future) = (std::pin::pin!(handle.sleep(ms)), std::pin::pin!(future));
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => over.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Polls one future until it ends, or until its crash is ordered (`None`). Time passes only while it sleeps.
pub fn run_alone<T>(handle: &ExecutorHandle, clock: &SimClock, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    loop {
        handle.wake_due();
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => return Some(value),
            Poll::Pending if handle.take_crash() => return None,
            Poll::Pending => {
                let wake_at = handle.take_wake_at();
                clock.advance(wake_at.saturating_sub(clock.now().0));
            }
        }
    }
}
