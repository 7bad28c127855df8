//! Metrics in CloudWatch's embedded metric format: JSON lines on stdout that CloudWatch Logs converts to
//! metrics, so a Lambda function needs no API calls for them.
//!
//! One line per set of label values, in the namespace [`NAMESPACE`]; a metric's labels are its only set of
//! dimensions. Only listed metrics (`signpost_txmgr::meters`) are written, and only those that changed since the
//! last [`Emf::flush`].
//!
//! Source of the format and its limits: CloudWatch User Guide, "Specification: Embedded metric format".

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit as Described,
};
use serde_json::{Map, Number, Value, json};
use signpost_txmgr::meters::{self, Meter, Unit};

/// The namespace of every metric.
pub const NAMESPACE: &str = "Signpost";
/// Maximum number of values of one metric per line, the format's limit.
const VALUES_MAX: usize = 100;
/// Maximum number of series. Labels have few values; if one has too many, further series are
/// dropped, because CloudWatch bills each.
const SERIES_MAX: usize = 1_000;
/// Maximum number of values of one histogram between two flushes; later ones are dropped.
const SAMPLES_MAX: usize = 10_000;

/// Collects metrics until the next flush. Clones share their metrics.
#[derive(Debug, Clone, Default)]
pub struct Emf(Arc<Mutex<BTreeMap<Series, Measured>>>);

/// A metric with its label values.
type Series = (Labels, &'static str);
type Labels = Vec<(String, String)>;

#[derive(Debug)]
enum Measured {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<Level>),
    Histogram(Arc<Samples>),
}

/// A gauge's value, and whether it was set since the last flush.
#[derive(Debug, Default)]
struct Level(Mutex<(f64, bool)>);

#[derive(Debug, Default)]
struct Samples(Mutex<Vec<f64>>);

impl Emf {
    /// Prints the metrics that changed since the last flush to stdout, at the end of an invocation.
    pub fn flush(&self, now_ms: u64) {
        // A line that cannot be written is lost, like all other output of the function.
        let _ = self.write(&mut io::stdout().lock(), now_ms);
    }

    /// Like [`Self::flush`], to any writer.
    pub fn write(&self, out: &mut impl Write, now_ms: u64) -> io::Result<()> {
        let mut lines = String::new();
        for (labels, metrics) in self.take() {
            for line in lines_of(&labels, metrics, now_ms) {
                lines.push_str(&line.to_string());
                lines.push('\n');
            }
        }
        out.write_all(lines.as_bytes())?;
        out.flush()
    }

    /// The changed metrics, by label values.
    fn take(&self) -> BTreeMap<Labels, Vec<(&'static Meter, Vec<Number>)>> {
        let mut changed: BTreeMap<Labels, Vec<_>> = BTreeMap::new();
        for ((labels, name), measured) in &*locked(&self.0) {
            let values: Vec<Number> = match measured {
                Measured::Counter(count) => {
                    let count = count.swap(0, Ordering::Relaxed);
                    (count > 0).then(|| count.into()).into_iter().collect()
                }
                Measured::Gauge(level) => {
                    let mut level = locked(&level.0);
                    let (value, fresh) = *level;
                    level.1 = false;
                    fresh.then(|| Number::from_f64(value)).flatten().into_iter().collect()
                }
                Measured::Histogram(samples) => {
                    std::mem::take(&mut *locked(&samples.0)).into_iter().filter_map(Number::from_f64).collect()
                }
            };
            if let Some(meter) = listed(name).filter(|_| !values.is_empty()) {
                changed.entry(labels.clone()).or_default().push((meter, values));
            }
        }
        changed
    }

    /// The storage of a metric; `None` if the metric is not listed or there are too many series.
    fn kept<T>(&self, key: &Key, new: fn() -> Measured, of: fn(&Measured) -> Option<T>) -> Option<T> {
        let name = listed(key.name())?.name;
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        let mut series = locked(&self.0);
        let full = series.len() >= SERIES_MAX;
        let series_key = (labels, name);
        if full && !series.contains_key(&series_key) {
            return None;
        }
        of(series.entry(series_key).or_insert_with(new))
    }
}

impl Recorder for Emf {
    fn describe_counter(&self, _: KeyName, _: Option<Described>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Described>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Described>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let of = |measured: &Measured| match measured {
            Measured::Counter(count) => Some(Arc::clone(count)),
            Measured::Gauge(_) | Measured::Histogram(_) => None,
        };
        self.kept(key, || Measured::Counter(Arc::default()), of).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let of = |measured: &Measured| match measured {
            Measured::Gauge(level) => Some(Arc::clone(level)),
            Measured::Counter(_) | Measured::Histogram(_) => None,
        };
        self.kept(key, || Measured::Gauge(Arc::default()), of).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let of = |measured: &Measured| match measured {
            Measured::Histogram(samples) => Some(Arc::clone(samples)),
            Measured::Counter(_) | Measured::Gauge(_) => None,
        };
        self.kept(key, || Measured::Histogram(Arc::default()), of).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

impl Level {
    fn change(&self, to: impl Fn(f64) -> f64) {
        let mut level = locked(&self.0);
        *level = (to(level.0), true);
    }
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        self.change(|old| old + value);
    }

    fn decrement(&self, value: f64) {
        self.change(|old| old - value);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        let mut samples = locked(&self.0);
        if samples.len() < SAMPLES_MAX {
            samples.push(value);
        }
    }
}

/// The lines of one set of label values: several if a metric has more values than a line may hold.
fn lines_of(labels: &Labels, metrics: Vec<(&'static Meter, Vec<Number>)>, now_ms: u64) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut left = metrics;
    while !left.is_empty() {
        let mut definitions = Vec::new();
        let mut line: Map<String, Value> =
            labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        for (meter, values) in &mut left {
            let now = values.drain(..values.len().min(VALUES_MAX));
            let now: Vec<Value> = now.map(Value::Number).collect();
            definitions.push(json!({ "Name": meter.name, "Unit": unit(meter.unit) }));
            let value = if let [only] = now.as_slice() { only.clone() } else { Value::Array(now) };
            line.insert(meter.name.to_owned(), value);
        }
        left.retain(|(_, values)| !values.is_empty());
        let dimensions: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": definitions });
        line.insert("_aws".to_owned(), json!({ "Timestamp": now_ms, "CloudWatchMetrics": [directive] }));
        lines.push(Value::Object(line));
    }
    lines
}

/// CloudWatch's name of a unit.
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "Count",
        Unit::Milliseconds => "Milliseconds",
        Unit::Gwei => "None",
    }
}

fn listed(name: &str) -> Option<&'static Meter> {
    meters::ALL.iter().find(|meter| meter.name == name)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    /// The printed lines after `measure`.
    fn printed(emf: &Emf, measure: impl FnOnce()) -> Vec<Value> {
        metrics::with_local_recorder(emf, measure);
        let mut out = Vec::new();
        emf.write(&mut out, NOW_MS).unwrap();
        let lines = String::from_utf8(out).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter().for_each(assert_valid);
        lines
    }

    /// Checks the rules of the specification.
    fn assert_valid(line: &Value) {
        let aws = &line["_aws"];
        assert_eq!(aws["Timestamp"], NOW_MS);
        for directive in aws["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], "Signpost");
            for set in directive["Dimensions"].as_array().unwrap() {
                let set = set.as_array().unwrap();
                assert!(set.len() <= 30);
                for name in set {
                    let value = line[name.as_str().unwrap()].as_str().expect("a dimension's value is a text");
                    assert!(!value.is_empty() && value.len() <= 1_024);
                }
            }
            let metrics = directive["Metrics"].as_array().unwrap();
            assert!((1..=100).contains(&metrics.len()));
            for metric in metrics {
                assert!(["Count", "Milliseconds", "None"].contains(&metric["Unit"].as_str().unwrap()));
                let value = &line[metric["Name"].as_str().unwrap()];
                let numbers =
                    |values: &Vec<Value>| (1..=100).contains(&values.len()) && values.iter().all(Value::is_number);
                assert!(value.is_number() || value.as_array().is_some_and(numbers), "{metric} is {value}");
            }
        }
    }

    #[test]
    fn one_line_per_set_of_label_values_holds_changed_metrics() {
        let emf = Emf::default();
        let lines = printed(&emf, || {
            metrics::counter!(meters::ACCEPTED).increment(2);
            metrics::counter!(meters::ACCEPTED).increment(1);
            metrics::histogram!(meters::KMS_SIGN).record(12.5);
            metrics::counter!(meters::REJECTED, "code" => "unknownField").increment(1);
            metrics::gauge!(meters::LANE_OPEN_SLOTS, "account" => "97:0x0a").set(7.0);
        });
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0][meters::ACCEPTED], &lines[0][meters::KMS_SIGN]), (&json!(3), &json!(12.5)));
        assert_eq!(lines[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
        assert_eq!((&lines[1]["account"], &lines[1][meters::LANE_OPEN_SLOTS]), (&json!("97:0x0a"), &json!(7.0)));
        assert_eq!((&lines[2]["code"], &lines[2][meters::REJECTED]), (&json!("unknownField"), &json!(1)));
    }

    #[test]
    fn unchanged_metrics_are_not_printed_again() {
        let emf = Emf::default();
        let measure = || {
            metrics::counter!(meters::BUMPS).increment(1);
            metrics::gauge!(meters::LANE_HEAD_AGE, "account" => "97:0x0a").set(0.0);
        };
        assert_eq!(printed(&emf, measure).len(), 2, "a gauge set to zero is a change");
        assert_eq!(printed(&emf, || {}).len(), 0);
        assert_eq!(printed(&emf, measure)[0][meters::BUMPS], 1, "the counter restarts");
    }

    #[test]
    fn too_many_values_for_a_line_make_more_lines() {
        let emf = Emf::default();
        let lines = printed(&emf, || {
            for value in 0..250 {
                metrics::histogram!(meters::MINED_AFTER).record(f64::from(value));
            }
            metrics::counter!(meters::ACCEPTED).increment(1);
        });
        let lengths: Vec<_> = lines.iter().map(|line| line[meters::MINED_AFTER].as_array().unwrap().len()).collect();
        assert_eq!(lengths, [100, 100, 50]);
        assert_eq!(lines.iter().filter(|line| line.get(meters::ACCEPTED).is_some()).count(), 1, "counted once");
    }

    #[test]
    fn unlisted_names_and_excess_label_values_are_dropped() {
        const THEIRS: &str = "somebody_elses_total";
        let emf = Emf::default();
        let lines = printed(&emf, || {
            metrics::counter!(THEIRS).increment(1);
            for at in 0..(SERIES_MAX + 50) {
                metrics::counter!(meters::REJECTED, "code" => at.to_string()).increment(1);
            }
        });
        assert_eq!(lines.len(), SERIES_MAX);
    }
}
