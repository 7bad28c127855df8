//! Time per request by the size of everything that can grow, on in-memory ports and one thread.
//!
//! Signer and broadcaster are the real drivers; the keys really sign (a `k256` signature each, which KMS would make),
//! the chain really decodes and recovers. Sizes are compared with each other, never a time with a goal. Read next:
//! `src/bin/scale.rs`.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::FutureExt as _;
use plotters::prelude::*;
use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Lane};
use signpost_txmgr::fake::{
    Interceptor, Journal, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, KmsKeyId, Millis, Nonce, Wei};

use crate::deployment::{CHAIN, RETENTION_MS, START};

const BLOCK_MS: u64 = 450;
/// More blocks than any run needs: a lane that does not drain ends the run.
const BLOCKS_MAX: usize = 20_000;
/// The most that the time per request may grow over a series where it should not grow at all: larger trees and caches
/// are a little slower.
const GROWTH_MAX: f64 = 2.0;

/// What one series varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Varied {
    /// Signed slots that wait in the lane before the first measured request.
    OpenSlots,
    /// Accounts with ten requests each.
    Accounts,
    /// Messages that the signer gets at once.
    BatchSize,
    /// Bytes of calldata of each request.
    Calldata,
}

/// A row of measurements.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    varied: Varied,
    sizes: &'static [usize],
}

/// All series.
pub const SERIES: [Series; 4] = [
    Series { varied: Varied::OpenSlots, sizes: &[10, 100, 1_000, 10_000, 100_000] },
    Series { varied: Varied::Accounts, sizes: &[1, 10, 100, 1_000] },
    Series { varied: Varied::BatchSize, sizes: &[1, 2, 5, 10] },
    Series { varied: Varied::Calldata, sizes: &[0, 1_024, 16_384, 65_536, 130_000] },
];

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    size: usize,
    requests: usize,
    signing: Duration,
    broadcasting: Duration,
}

/// A series, measured.
#[derive(Debug)]
pub struct Run {
    varied: Varied,
    points: Vec<Point>,
}

impl Series {
    /// Measures every size; a quick run leaves out the largest.
    #[must_use]
    pub fn run(&self, quick: bool) -> Run {
        let sizes = if quick { &self.sizes[..self.sizes.len() - 1] } else { self.sizes };
        Run { varied: self.varied, points: sizes.iter().map(|size| self.varied.measure(*size)).collect() }
    }
}

impl Varied {
    fn name(self) -> &'static str {
        match self {
            Self::OpenSlots => "open slots",
            Self::Accounts => "accounts",
            Self::BatchSize => "batch size",
            Self::Calldata => "bytes of calldata",
        }
    }

    fn measure(self, size: usize) -> Point {
        let (accounts, batch, data, requests) = match self {
            Self::OpenSlots => (1, 10, 68, 1_000),
            Self::Accounts => (size, 10, 68, size * 10),
            Self::BatchSize => (1, size, 68, 1_000),
            Self::Calldata => (1, 10, size, 200),
        };
        let mut bench = Bench::new(accounts);
        if self == Self::OpenSlots {
            bench.sign(size, 10, data);
        }
        let signing = bench.sign(requests, batch, data);
        let broadcasting = bench.broadcast(requests);
        Point { size, requests, signing, broadcasting }
    }
}

impl Point {
    fn each_us(&self, whole: Duration) -> f64 {
        let requests = f64::from(u32::try_from(self.requests).unwrap());
        whole.as_secs_f64() * 1e6 / requests
    }

    fn both_us(&self) -> f64 {
        self.each_us(self.signing) + self.each_us(self.broadcasting)
    }
}

impl Run {
    /// Why this series grows faster than its data, if it does.
    #[must_use]
    pub fn too_steep(&self) -> Option<String> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let grown = last.both_us() / first.both_us();
        let allowed = match self.varied {
            Varied::OpenSlots | Varied::Accounts | Varied::BatchSize => GROWTH_MAX,
            // At the large end, twice the bytes may take twice the time.
            Varied::Calldata => {
                let before = self.points.get(self.points.len().checked_sub(2)?)?;
                let grown = last.both_us() / before.both_us();
                let bytes = |point: &Point| f64::from(u32::try_from(point.size).unwrap());
                let allowed = bytes(last) / bytes(before).max(1.0) * 1.3;
                return (grown > allowed).then(|| format!("calldata: {grown:.2} × the time for the last doubling"));
            }
        };
        (grown > allowed).then(|| format!("{}: the time per request grows {grown:.2} ×", self.varied.name()))
    }
}

/// A series as a table in Markdown.
#[must_use]
pub fn table(run: &Run) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!(
            "| {} | requests | signer, µs each | broadcaster, µs each | both, against the first |",
            run.varied.name()
        ),
        "|---:|---:|---:|---:|---:|".to_owned(),
    ];
    let first = run.points.first().map_or(1.0, Point::both_us);
    for point in &run.points {
        let mut line = String::new();
        let (signing, broadcasting) = (point.each_us(point.signing), point.each_us(point.broadcasting));
        let _ = write!(line, "| {} | {} | {signing:.0} | {broadcasting:.0} ", point.size, point.requests);
        let _ = write!(line, "| {:.2} × |", point.both_us() / first);
        lines.push(line);
    }
    lines
}

/// Every series drawn as time per request over size, in SVG.
#[must_use]
pub fn plot(runs: &[Run]) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (960, 640)).into_drawing_area();
        area.fill(&WHITE).unwrap();
        for (part, run) in area.split_evenly((2, 2)).iter().zip(runs) {
            let at = |point: &Point| f64::from(u32::try_from(point.size.max(1)).unwrap());
            let highest = run.points.iter().map(Point::both_us).fold(0.0, f64::max);
            let (from, to) = (run.points.first().map_or(1.0, at), run.points.last().map_or(1.0, at));
            let mut chart = ChartBuilder::on(part)
                .caption(format!("µs per request by {}", run.varied.name()), ("sans-serif", 16))
                .margin(12)
                .x_label_area_size(28)
                .y_label_area_size(48)
                .build_cartesian_2d((from..to).log_scale(), 0.0..highest * 1.1)
                .unwrap();
            chart.configure_mesh().light_line_style(WHITE).draw().unwrap();
            let both = run.points.iter().map(|point| (at(point), point.both_us()));
            let signer = run.points.iter().map(|point| (at(point), point.each_us(point.signing)));
            chart.draw_series(LineSeries::new(both, BLUE.stroke_width(2)).point_size(3)).unwrap().label("both");
            chart.draw_series(LineSeries::new(signer, RED.stroke_width(2)).point_size(3)).unwrap().label("signer");
        }
        area.present().unwrap();
    }
    svg
}

/// The fakes with many accounts, and the drivers.
struct Bench {
    signer: Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>,
    broadcaster: Broadcaster<MemoryStore, MemoryChain, MemoryQueues, MemoryTopic>,
    chain: MemoryChain,
    store: MemoryStore,
    accounts: Vec<AccountKey>,
    now: Millis,
    sent: usize,
}

impl Bench {
    fn new(accounts: usize) -> Self {
        let (interceptor, journal) = (Interceptor::default(), Journal::default());
        let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
        let store = MemoryStore::new(interceptor.clone(), journal.clone());
        let chain = MemoryChain::new(CHAIN, interceptor.clone(), journal.clone());
        let accounts: Vec<_> = (0..accounts).map(|number| register(&store, &keys, number)).collect();
        let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(START), &interceptor, &journal);
        let topic = MemoryTopic::new(interceptor, journal);
        let policies = "[default]\nmax_gas_price_wei = \"5000000000\"\ngas_price_wei = \"1000000000\"\n";
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: CHAIN,
            policies: Policies::from_toml(policies).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(50_000_000) },
            retention_ms: RETENTION_MS,
            sign_concurrency: 10,
        };
        let signer = Signer::new(store.clone(), keys, queues.clone(), topic.clone(), config);
        let config = BroadcasterConfig {
            chain_id: CHAIN,
            tuning: Tuning::BSC,
            window: BroadcasterConfig::WINDOW,
            retention_ms: RETENTION_MS,
            write_concurrency: 16,
        };
        let broadcaster = Broadcaster::new(store.clone(), chain.clone(), queues, topic, config);
        Self { signer, broadcaster, chain, store, accounts, now: START, sent: 0 }
    }

    /// Signs `requests` more requests, spread over the accounts batch by batch; returns the time it took.
    fn sign(&mut self, requests: usize, batch: usize, data: usize) -> Duration {
        let mut batches = Vec::new();
        for (number, start) in (0..requests).step_by(batch).enumerate() {
            let account = number % self.accounts.len();
            let size = batch.min(requests - start);
            batches.push((self.sent + start..).take(size).map(|id| delivery(id, account, data)).collect::<Vec<_>>());
        }
        self.sent += requests;
        let clock = Clock::start();
        for batch in batches {
            let dispositions = self.signer.handle(&batch, self.now).now_or_never().unwrap();
            assert!(dispositions.iter().all(|disposition| *disposition == Disposition::Done));
        }
        clock.elapsed()
    }

    /// Runs rounds of every lane, block by block, until `requests` requests are closed; returns the time it took.
    fn broadcast(&mut self, requests: usize) -> Duration {
        let mut lanes: Vec<_> = self.accounts.iter().map(|account| Lane::new(*account, self.now)).collect();
        let mut took = Duration::ZERO;
        for _ in 0..BLOCKS_MAX {
            let clock = Clock::start();
            for lane in &mut lanes {
                self.broadcaster.round(lane, self.now).now_or_never().unwrap().unwrap();
            }
            took += clock.elapsed();
            let closed: u64 =
                self.store.with_tables(|tables| tables.heads.values().map(|head| head.lowest_open_nonce.0).sum());
            if closed >= u64::try_from(requests).unwrap() {
                return took;
            }
            self.chain.mine();
            self.now = self.now.plus(BLOCK_MS);
        }
        panic!("the lanes do not drain");
    }
}

fn register(store: &MemoryStore, keys: &MemoryKeys, number: usize) -> AccountKey {
    let kms_key_id: KmsKeyId = format!("key-{number}").parse().unwrap();
    let mut secret = [0x11; 32];
    secret[24..].copy_from_slice(&u64::try_from(number + 1).unwrap().to_be_bytes());
    let account = AccountKey { chain_id: CHAIN, address: keys.add(&kms_key_id, secret) };
    let head = Head::new(account, format!("a{number}").parse().unwrap(), kms_key_id, Nonce(0), START);
    store.register(&head).now_or_never().unwrap().unwrap();
    account
}

fn delivery(id: usize, account: usize, data: usize) -> Incoming {
    let gas = 21_000 + data * 40;
    let data = "11".repeat(data);
    Incoming {
        receipt: String::new(),
        message_id: format!("m-{id}"),
        group: Some(format!("a{account}")),
        sender: None,
        trace: None,
        receives: 1,
        body: format!(
            r#"{{"requestId":"r-{id}","account":"a{account}","to":"0x55d398326f99059fF775485246999027B3197955","data":"0x{data}","gas":{gas}}}"#
        ),
    }
}

/// Measures elapsed time.
struct Clock(std::time::Instant);

impl Clock {
    fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the marked place where this benchmark reads the clock")]
        let now = std::time::Instant::now();
        Self(now)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
