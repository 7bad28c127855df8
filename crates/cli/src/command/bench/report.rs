//! The result of a run: rates, percentiles, costs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use signpost_txmgr::wire::{RequestStatus, Status};

use super::load::{Load, Sent};
use crate::command::blocks::Seen;
use crate::figures::percentile;

/// Linux counts processor time in hundredths of a second.
const TICK_MS: u64 = 10;

/// The times from sending to one step, in milliseconds, sorted.
#[derive(Debug, Clone, Default)]
pub(super) struct Latency(Vec<u64>);

/// The cost of a stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    stage: &'static str,
    cpu_ms: u64,
    peak_kib: u64,
    resident_kib: u64,
}

/// Number of calls to AWS and bytes of their bodies, by `service:Operation`.
pub(super) type Calls = BTreeMap<String, (u64, u64)>;

/// Samples of the stages' resident memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Seconds since the run began, and KiB of each stage.
    pub(super) looks: Vec<(u32, Vec<(&'static str, u64)>)>,
}

impl Memory {
    /// Adds a sample.
    pub(super) fn add(&mut self, second: u32, costs: &[Cost]) {
        self.looks.push((second, costs.iter().map(|cost| (cost.stage, cost.resident_kib)).collect()));
    }

    /// The memory of each stage at the end of the run's first tenth, when caches are filled, and at its end.
    fn growth(&self) -> Vec<(&'static str, u64, u64)> {
        let settled = self.looks.get(self.looks.len().div_ceil(10)).or(self.looks.first());
        let (Some((_, then)), Some((_, now))) = (settled, self.looks.last()) else { return Vec::new() };
        then.iter().zip(now).map(|((stage, then), (_, now))| (*stage, *then, *now)).collect()
    }
}

/// One run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) load: Load,
    pub(super) accounts: usize,
    pub(super) costs: Vec<Cost>,
    pub(super) memory: Memory,
    pub(super) calls: Calls,
    sent: usize,
    executed: usize,
    ended: Vec<(&'static str, usize)>,
    errors: Vec<String>,
    open: usize,
    signed: Latency,
    mined: Latency,
    finalized: Latency,
    published: Latency,
    per_second: [Option<f64>; 3],
}

impl Latency {
    fn of(steps: impl Iterator<Item = (u64, Option<u64>)>) -> Self {
        let mut all: Vec<_> = steps.filter_map(|(sent, at)| Some(at?.saturating_sub(sent))).collect();
        all.sort_unstable();
        Self(all)
    }

    pub(super) fn at(&self, percent: usize) -> Option<u64> {
        percentile(&self.0, percent)
    }

    fn json(&self) -> Value {
        json!({ "p50": self.at(50), "p95": self.at(95), "p99": self.at(99) })
    }

    fn line(&self, name: &str) -> String {
        let shown = |percent| self.at(percent).map_or("-".to_owned(), |ms| ms.to_string());
        format!("  {name:<22}{:>8}{:>8}{:>8}", shown(50), shown(95), shown(99))
    }
}

impl Report {
    pub(super) fn of(load: Load, accounts: usize, sent: &Sent, seen: &Seen) -> Self {
        let each = || sent.closed.iter().filter_map(|(id, status)| Some((*sent.at.get(id)?, status)));
        let block = |status: &RequestStatus| status.block_number;
        let signed_at = |status: &RequestStatus| status.attempts.first().map(|attempt| attempt.signed_at);
        let there_at = |status: &RequestStatus| seen.there_at(block(status)?);
        let final_at = |status: &RequestStatus| seen.final_at(block(status)?);
        let step = |at: &dyn Fn(&RequestStatus) -> Option<u64>| -> (Latency, Option<f64>) {
            let moments: Vec<_> = each().map(|(sent, status)| (sent, at(status))).collect();
            (Latency::of(moments.iter().copied()), rate(moments.iter().filter_map(|(_, at)| *at), first_sent(sent)))
        };
        let (signed, accepted_rate) = step(&signed_at);
        let (mined, mined_rate) = step(&there_at);
        let (finalized, final_rate) = step(&final_at);
        let (published, _) = step(&|status| status.published_at);
        let executed = |status: &&RequestStatus| matches!(status.status, Status::Confirmed | Status::Reverted);
        Self {
            load,
            accounts,
            costs: Vec::new(),
            memory: Memory::default(),
            calls: Calls::new(),
            sent: sent.at.len(),
            executed: sent.closed.values().filter(executed).count(),
            ended: ended(sent),
            errors: sent.errors.clone(),
            open: sent.open(),
            signed,
            mined,
            finalized,
            published,
            per_second: [accepted_rate, mined_rate, final_rate],
        }
    }

    /// Whether every request was executed.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.open == 0 && self.executed == self.sent
    }

    /// Requests finalized per second.
    pub(super) fn final_per_second(&self) -> Option<f64> {
        self.per_second.last().copied().flatten()
    }

    /// Times from the message to the block.
    pub(super) fn mined(&self) -> &Latency {
        &self.mined
    }

    /// Times from the message to the published outcome.
    pub(super) fn published(&self) -> &Latency {
        &self.published
    }

    fn per_request(&self, whole: u64) -> Option<f64> {
        let executed = f64::from(u32::try_from(self.executed).ok()?);
        (executed > 0.0).then(|| round(f64::from(u32::try_from(whole).unwrap_or(u32::MAX)) / executed))
    }

    pub(super) fn json(&self) -> Value {
        let (kind, size) = match self.load {
            Load::Open { per_second } => ("rate", json!(per_second)),
            Load::Closed { clients } => ("clients", json!(clients)),
        };
        let [accepted, mined, finalized] = self.per_second;
        let stages = self.costs.iter().map(|cost| {
            let cpu_ms = self.per_request(cost.cpu_ms);
            json!({ "stage": cost.stage, "cpuMsPerRequest": cpu_ms, "peakRssKib": cost.peak_kib })
        });
        let ended = self.ended.iter().map(|(status, count)| ((*status).to_owned(), json!(count)));
        let calls = self.calls.iter().map(|(name, (count, _))| (name.clone(), json!(self.per_request(*count))));
        let bytes = self.calls.iter().map(|(name, (_, bytes))| (name.clone(), json!(self.per_request(*bytes))));
        let growth = self.memory.growth();
        let memory =
            growth.iter().map(|(stage, then, now)| json!({ "stage": stage, "afterWarmUp": then, "atEnd": now }));
        json!({
            kind: size,
            "accounts": self.accounts,
            "sent": self.sent,
            "ended": ended.collect::<Map<_, _>>(),
            "withoutOutcome": self.open,
            "errors": self.errors,
            "acceptedPerSecond": accepted,
            "minedPerSecond": mined,
            "finalizedPerSecond": finalized,
            "signedAfterMs": self.signed.json(),
            "minedAfterMs": self.mined.json(),
            "finalAfterMs": self.finalized.json(),
            "publishedAfterMs": self.published.json(),
            "callsPerRequest": calls.collect::<Map<_, _>>(),
            "bytesPerRequest": bytes.collect::<Map<_, _>>(),
            "stages": stages.collect::<Vec<_>>(),
            "rssKib": memory.collect::<Vec<_>>(),
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let load = match self.load {
            Load::Open { per_second } => format!("{per_second} requests per second"),
            Load::Closed { clients } => format!("{clients} callers"),
        };
        let ended: Vec<_> = self.ended.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let mut lines = vec![
            String::new(),
            format!("{load}, {} account(s), {} requests: {}", self.accounts, self.sent, ended.join(", ")),
        ];
        if self.open > 0 {
            lines.push(format!("  {} without an outcome", self.open));
        }
        lines.extend(self.errors.iter().take(5).map(|error| format!("  not accepted by SQS: {error}")));
        let names = ["accepted", "mined", "final"].into_iter().zip(self.per_second);
        let rates: Vec<_> = names.filter_map(|(name, rate)| Some(format!("{name} {:.1}/s", rate?))).collect();
        lines.push(format!("  {}", rates.join(", ")));
        lines.push(format!("  {:<22}{:>8}{:>8}{:>8}", "ms after the message", "p50", "p95", "p99"));
        lines.push(self.signed.line("signature stored"));
        lines.push(self.mined.line("mined"));
        lines.push(self.finalized.line("final"));
        lines.push(self.published.line("outcome published"));
        for cost in &self.costs {
            let each = self.per_request(cost.cpu_ms).map_or("-".to_owned(), |ms| format!("{ms} ms CPU"));
            let peak = cost.peak_kib.checked_div(1_024).unwrap_or(0);
            lines.push(format!("  {:<22}{each} per request, {peak} MiB at most", cost.stage));
        }
        for (name, (count, bytes)) in &self.calls {
            if let (Some(count), Some(bytes)) = (self.per_request(*count), self.per_request(*bytes)) {
                lines.push(format!("  {name:<32}{count:>6} calls, {bytes:.0} bytes per request"));
            }
        }
        for (stage, then, now) in self.memory.growth() {
            lines.push(format!("  {stage:<22}{then} KiB resident when warm, {now} KiB at the end"));
        }
        lines
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn first_sent(sent: &Sent) -> Option<u64> {
    sent.at.values().min().copied()
}

/// The rate per second, from the first message to the last request's step.
fn rate(moments: impl Iterator<Item = u64>, first: Option<u64>) -> Option<f64> {
    let all: Vec<_> = moments.collect();
    let took_ms = all.iter().max()?.checked_sub(first?)?;
    let (count, took_ms) = (u32::try_from(all.len()).ok()?, u32::try_from(took_ms).ok()?);
    (took_ms > 0).then(|| round(f64::from(count) * 1_000.0 / f64::from(took_ms)))
}

fn ended(sent: &Sent) -> Vec<(&'static str, usize)> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for status in sent.closed.values() {
        let name = status.status.as_str();
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => counts.push((name, 1)),
        }
    }
    counts
}

impl Cost {
    /// The cost of a process group so far; zero on systems without `/proc`.
    pub(super) fn of_group(stage: &'static str, group: Option<u32>) -> Self {
        let mut cost = Self { stage, ..Self::default() };
        let (Some(group), Ok(processes)) = (group, std::fs::read_dir("/proc")) else { return cost };
        for process in processes.flatten() {
            let Ok(stat) = std::fs::read_to_string(process.path().join("stat")) else { continue };
            let Some((ours, ticks)) = group_and_ticks(&stat) else { continue };
            if ours == group {
                cost.cpu_ms = cost.cpu_ms.saturating_add(ticks.saturating_mul(TICK_MS));
                let status = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
                cost.peak_kib = cost.peak_kib.max(kib_of(&status, "VmHWM:").unwrap_or(0));
                cost.resident_kib = cost.resident_kib.max(kib_of(&status, "VmRSS:").unwrap_or(0));
            }
        }
        cost
    }

    /// The cost between two samples.
    pub(super) fn between(before: &Self, after: &Self) -> Self {
        Self { cpu_ms: after.cpu_ms.saturating_sub(before.cpu_ms), ..after.clone() }
    }
}

/// Process group and processor ticks of a process, from its `/proc/PID/stat` (proc(5), fields 5, 14, 15).
fn group_and_ticks(stat: &str) -> Option<(u32, u64)> {
    // The name in parentheses may have any characters.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)?.saturating_add(number(12)?);
    Some((u32::try_from(number(2)?).ok()?, ticks))
}

/// A size of `/proc/PID/status`, in KiB.
fn kib_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_times_and_memory_are_read_from_proc() {
        let stat = "12 (a (b) c) S 1 77 77 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0";
        assert_eq!(group_and_ticks(stat), Some((77, 175)));
        let status = "Name:\tx\nVmHWM:\t   18324 kB\nVmRSS:\t 1 kB\n";
        assert_eq!((kib_of(status, "VmHWM:"), kib_of(status, "VmRSS:")), (Some(18_324), Some(1)));
        assert_eq!(kib_of("Name:\tx\n", "VmRSS:"), None);
        assert_eq!(group_and_ticks("nonsense"), None);
    }

    #[test]
    fn rate_counts_from_the_first_message() {
        assert_eq!(rate([2_000, 3_000, 5_000].into_iter(), Some(1_000)), Some(0.75));
        assert_eq!(rate([].into_iter(), Some(1_000)), None);
        assert_eq!(rate([1_000].into_iter(), Some(1_000)), None);
    }
}
