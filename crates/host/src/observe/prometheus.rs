//! Metrics for Prometheus: an HTTP endpoint with all listed metrics.
//!
//! Read-only and without authentication. It reveals accounts and funds, so it belongs on loopback or a
//! private network.

use std::net::SocketAddr;

use metrics::Unit as Described;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use signpost_txmgr::meters::{self, Kind, Meter, Unit};

use crate::start::StartError;

/// Upper bounds in milliseconds: fine around a call to KMS, a block (450 ms), a proposer's turn (8 blocks, 3.6 s) and
/// the 16 blocks before a bump (7.2 s), and coarse for stuck requests.
const BUCKETS_MS: &[f64] = &[
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    1_000.0,
    1_500.0,
    2_000.0,
    3_000.0,
    5_000.0,
    7_500.0,
    10_000.0,
    15_000.0,
    30_000.0,
    60_000.0,
    120_000.0,
    300_000.0,
    1_800_000.0,
];

/// Starts the endpoint at `address`; it answers on any path.
pub(super) fn serve(address: SocketAddr) -> Result<(), StartError> {
    let wrong = |error: metrics_exporter_prometheus::BuildError| StartError::Metrics(error.to_string());
    let builder = PrometheusBuilder::new().with_http_listener(address);
    let histograms = meters::ALL.iter().filter(|meter| meter.kind == Kind::Histogram);
    let builder = histograms
        .map(|meter| Matcher::Full(meter.name.to_owned()))
        .try_fold(builder, |builder, name| builder.set_buckets_for_metric(name, BUCKETS_MS));
    let (recorder, serving) = builder.and_then(PrometheusBuilder::build).map_err(wrong)?;
    // The first recorder of a process stays; a second one is ignored.
    let _ = metrics::set_global_recorder(recorder);
    meters::ALL.iter().for_each(describe);
    tokio::spawn(async move {
        if serving.await.is_err() {
            tracing::error!(%address, "the metrics endpoint stopped");
        }
    });
    Ok(())
}

/// Describes a metric. A metric without labels is created at the start, so that its first increment is
/// visible.
fn describe(meter: &Meter) {
    let unit = match meter.unit {
        Unit::Count | Unit::Gwei => Described::Count,
        Unit::Milliseconds => Described::Milliseconds,
    };
    match meter.kind {
        Kind::Counter => {
            metrics::describe_counter!(meter.name, unit, meter.meaning);
            if meter.labels.is_empty() {
                metrics::counter!(meter.name).absolute(0);
            }
        }
        Kind::Gauge => metrics::describe_gauge!(meter.name, unit, meter.meaning),
        Kind::Histogram => {
            metrics::describe_histogram!(meter.name, unit, meter.meaning);
            // Visible from the first scrape on, without values.
            let _ = metrics::histogram!(meter.name);
        }
    }
}
