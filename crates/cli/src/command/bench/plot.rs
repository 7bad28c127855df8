//! Draws the results of several runs: latency by load, throughput by accounts, and memory over the time of the last
//! run.

use plotters::prelude::*;

use super::load::Load;
use super::report::Report;

const SIZE: (u32, u32) = (1_320, 400);

/// The drawing, in SVG.
pub(super) fn draw(reports: &[Report]) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let parts = area.split_evenly((1, 3));
    let [left, middle, right] = parts.as_slice() else { unreachable!("the area was split into three") };
    let latency = |percent: usize| -> Vec<(f64, f64)> {
        reports.iter().filter_map(|report| Some((load(report), number(report.mined().at(percent)?)))).collect()
    };
    let outcome: Vec<(f64, f64)> =
        reports.iter().filter_map(|report| Some((load(report), number(report.published().at(50)?)))).collect();
    let lines = [("mined, p50", latency(50)), ("mined, p99", latency(99)), ("outcome, p50", outcome)];
    let drawn = area
        .fill(&WHITE)
        .and_then(|()| chart(left, "ms after the message, by load", &lines))
        .and_then(|()| chart(middle, "finalized per second, by accounts", &[("finalized/s", throughput(reports))]))
        .and_then(|()| chart(right, "MiB resident, by seconds of the last run", &memory(reports)))
        .and_then(|()| area.present());
    drawn.expect("writing to a string does not fail");
    drop((parts, area));
    svg
}

fn load(report: &Report) -> f64 {
    match report.load {
        Load::Open { per_second } => per_second,
        Load::Closed { clients } => f64::from(u32::try_from(clients).unwrap_or(u32::MAX)),
    }
}

fn throughput(reports: &[Report]) -> Vec<(f64, f64)> {
    let accounts = |report: &Report| f64::from(u32::try_from(report.accounts).unwrap_or(u32::MAX));
    reports.iter().filter_map(|report| Some((accounts(report), report.final_per_second()?))).collect()
}

/// The memory over time, one line for each stage.
fn memory(reports: &[Report]) -> Vec<(&'static str, Vec<(f64, f64)>)> {
    let mut lines: Vec<(&'static str, Vec<(f64, f64)>)> = Vec::new();
    for (second, stages) in reports.last().into_iter().flat_map(|report| &report.memory.looks) {
        for (stage, kib) in stages {
            let point = (f64::from(*second), number(*kib) / 1_024.0);
            match lines.iter_mut().find(|(name, _)| name == stage) {
                Some((_, points)) => points.push(point),
                None => lines.push((stage, vec![point])),
            }
        }
    }
    lines
}

fn number(ms: u64) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn chart<'a>(area: &Area<'a>, title: &str, lines: &[(&str, Vec<(f64, f64)>)]) -> Drawn<'a> {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let most = |pick: fn(&(f64, f64)) -> f64| all().map(pick).fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1))?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    for (at, (name, points)) in lines.iter().enumerate() {
        let style = Palette99::pick(at).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(if points.len() > 50 {
                0
            } else {
                3
            }))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x.saturating_add(16), y)], style));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE).draw()
}
