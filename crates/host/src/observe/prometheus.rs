//! Metrics for Prometheus: an HTTP endpoint that shows every metric of the list.
//!
//! Read-only, without authentication: it tells accounts and funds, so it belongs on loopback or a
//! network of one's own.

use std::net::SocketAddr;

use metrics::Unit as Described;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use signpost_txmgr::meters::{self, Kind, Meter, Unit};

use crate::start::StartError;

/// Upper bounds in milliseconds: fine about a call to KMS, a block (450 ms), a proposer's turn (8 blocks, 3.6 s), the
/// 16 blocks before a bump (7.2 s), and what is stuck.
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

/// Answers at `address` from now on, on any path.
pub(super) fn serve(address: SocketAddr) -> Result<(), StartError> {
    let wrong = |error: metrics_exporter_prometheus::BuildError| StartError::Metrics(error.to_string());
    let builder = PrometheusBuilder::new().with_http_listener(address);
    let histograms = meters::ALL.iter().filter(|meter| meter.kind == Kind::Histogram);
    let builder = histograms
        .map(|meter| Matcher::Full(meter.name.to_owned()))
        .try_fold(builder, |builder, name| builder.set_buckets_for_metric(name, BUCKETS_MS));
    let (recorder, serving) = builder.and_then(PrometheusBuilder::build).map_err(wrong)?;
    // The first recorder of a process stays; a second is no fault.
    let _ = metrics::set_global_recorder(recorder);
    meters::ALL.iter().for_each(describe);
    tokio::spawn(async move {
        if serving.await.is_err() {
            tracing::error!(%address, "metrics are not served any more");
        }
    });
    Ok(())
}

/// Tells what a metric means; and one without labels is there from the start, so that its first step is
/// seen as one.
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
            // Known from the first scrape on, with no values.
            let _ = metrics::histogram!(meter.name);
        }
    }
}
