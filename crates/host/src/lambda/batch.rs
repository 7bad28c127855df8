//! Passes records to a handler within a time limit, so that the failure of one record affects only that record.
//!
//! A handler gets its records together, which is efficient: one reservation serves many requests. If it
//! panics, it gets the records one by one, to isolate the one that caused the panic. That is safe because every
//! step of the drivers is idempotent.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use signpost_txmgr::inbox::{Disposition, HeldBack, Incoming, hold_back};

use super::time::TimeLeft;
use crate::consumer::{Handler, Stop};

/// Handles records; one disposition each, in order. With `by_group`, groups are handled separately and concurrently.
pub async fn handle<H: Handler>(
    handler: &Arc<H>,
    messages: &[Incoming],
    by_group: bool,
    time: TimeLeft,
    stop: &Stop,
) -> Vec<Disposition> {
    let parts = if by_group { groups(messages) } else { vec![(0..messages.len()).collect()] };
    let working = parts.into_iter().map(|places: Vec<usize>| async move {
        let part: Vec<_> = places.iter().filter_map(|at| messages.get(*at).cloned()).collect();
        (places, handle_part(handler, part, time, stop).await)
    });
    // A record without an answer is not done.
    let mut dispositions = vec![Disposition::Retry; messages.len()];
    for (places, answers) in join_all(working).await {
        for (at, answer) in places.into_iter().zip(answers) {
            if let Some(place) = dispositions.get_mut(at) {
                *place = answer;
            }
        }
    }
    // Else Lambda would delete what follows a failed record in its group, and it would have overtaken.
    hold_back(messages, &mut dispositions);
    dispositions
}

fn groups(messages: &[Incoming]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (at, message) in messages.iter().enumerate() {
        groups.entry(message.group.as_deref()).or_default().push(at);
    }
    groups.into_values().collect()
}

async fn handle_part<H: Handler>(
    handler: &Arc<H>,
    messages: Vec<Incoming>,
    time: TimeLeft,
    stop: &Stop,
) -> Vec<Disposition> {
    match attempt(handler, messages.clone(), time, stop).await {
        HandlerResult::Answered(dispositions) => dispositions,
        HandlerResult::OutOfTime => vec![Disposition::Retry; messages.len()],
        HandlerResult::Broke if messages.len() == 1 => vec![Disposition::Retry],
        HandlerResult::Broke => one_by_one(handler, messages, time, stop).await,
    }
}

async fn one_by_one<H: Handler>(
    handler: &Arc<H>,
    messages: Vec<Incoming>,
    time: TimeLeft,
    stop: &Stop,
) -> Vec<Disposition> {
    let mut dispositions = Vec::with_capacity(messages.len());
    let mut held = HeldBack::default();
    for message in messages {
        let answer = if held.holds(&message) {
            Disposition::Retry
        } else {
            match attempt(handler, vec![message.clone()], time, stop).await {
                HandlerResult::Answered(answers) => answers.first().copied().unwrap_or(Disposition::Retry),
                HandlerResult::OutOfTime | HandlerResult::Broke => Disposition::Retry,
            }
        };
        dispositions.push(held.next(&message, answer));
    }
    dispositions
}

/// The result of one call of the handler.
enum HandlerResult {
    /// It returned one disposition each.
    Answered(Vec<Disposition>),
    /// It was aborted: some of the work may be done, as after a crash.
    OutOfTime,
    /// It panicked.
    Broke,
}

async fn attempt<H: Handler>(handler: &Arc<H>, messages: Vec<Incoming>, time: TimeLeft, stop: &Stop) -> HandlerResult {
    let ids: Vec<_> = messages.iter().map(|message| message.message_id.clone()).collect();
    let (handler, stop) = (Arc::clone(handler), stop.clone());
    let mut work = tokio::spawn(async move {
        let dispositions = handler.handle(&messages, &stop).await;
        assert_eq!(dispositions.len(), messages.len(), "a handler returns a disposition for every message");
        dispositions
    });
    match tokio::time::timeout(time.to_abort(), &mut work).await {
        Ok(Ok(dispositions)) => HandlerResult::Answered(dispositions),
        Ok(Err(error)) => {
            tracing::error!(%error, message_ids = ?ids, "a handler panicked on one of these; each is tried alone");
            HandlerResult::Broke
        }
        Err(_elapsed) => {
            work.abort();
            tracing::warn!(message_ids = ?ids, "not done within the function's time; the messages will be redelivered");
            HandlerResult::OutOfTime
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;

    /// Handles messages as their bodies say, and records the bodies of each call.
    #[derive(Default)]
    struct ByBody {
        calls: Mutex<Vec<Vec<String>>>,
    }

    impl Handler for ByBody {
        async fn handle(&self, messages: &[Incoming], _stop: &Stop) -> Vec<Disposition> {
            let bodies: Vec<_> = messages.iter().map(|message| message.body.clone()).collect();
            self.calls.lock().unwrap().push(bodies.clone());
            if bodies.iter().any(|body| body == "hang") {
                std::future::pending::<()>().await;
            }
            assert!(!bodies.iter().any(|body| body == "break"), "asked to");
            let forgotten = usize::from(bodies.iter().any(|body| body == "forget"));
            let disposition = |body: &String| if body == "retry" { Disposition::Retry } else { Disposition::Done };
            bodies.iter().skip(forgotten).map(disposition).collect()
        }
    }

    fn message(text: &str) -> Incoming {
        let (group, body) = text.split_once('/').unwrap_or(("", text));
        Incoming {
            receipt: String::new(),
            message_id: text.to_owned(),
            group: Some(group.to_owned()).filter(|group| !group.is_empty()),
            sender: None,
            trace: None,
            receives: 1,
            body: body.to_owned(),
        }
    }

    /// `texts` are `GROUP/BODY`, or `BODY` on a standard queue. Returns the failed ones, and the bodies of each call.
    async fn failed(texts: &[&str], by_group: bool) -> (Vec<String>, Vec<Vec<String>>) {
        let messages: Vec<_> = texts.iter().map(|text| message(text)).collect();
        let handler = Arc::new(ByBody::default());
        let (_stop_sender, stop) = watch::channel(false);
        let time = TimeLeft::of(Duration::from_mins(1));
        let dispositions = handle(&handler, &messages, by_group, time, &stop).await;
        let failed = messages.iter().zip(dispositions).filter(|(_, disposition)| *disposition == Disposition::Retry);
        let failed = failed.map(|(message, _)| message.message_id.clone()).collect();
        let calls = handler.calls.lock().unwrap().clone();
        (failed, calls)
    }

    #[tokio::test]
    async fn records_are_handled_together() {
        let (failed, calls) = failed(&["a", "b", "c"], false).await;
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(calls, [["a", "b", "c"]]);
    }

    #[tokio::test]
    async fn failure_fails_the_rest_of_its_group_only() {
        let texts = ["hot/a", "cold/retry", "hot/retry", "cold/b", "warm/c", "hot/d"];
        for by_group in [false, true] {
            let (failed, _) = failed(&texts, by_group).await;
            assert_eq!(failed, ["cold/retry", "hot/retry", "cold/b", "hot/d"], "by group: {by_group}");
        }
    }

    #[tokio::test]
    async fn failure_on_a_standard_queue_fails_only_that_record() {
        let (failed, _) = failed(&["a", "retry", "b"], false).await;
        assert_eq!(failed, ["retry"]);
    }

    #[tokio::test]
    async fn record_that_causes_a_panic_fails_alone() {
        let (failed, calls) = failed(&["a", "break", "b"], false).await;
        assert_eq!(failed, ["break"]);
        assert_eq!(calls, [vec!["a", "break", "b"], vec!["a"], vec!["break"], vec!["b"]]);
    }

    #[tokio::test]
    async fn records_after_a_panic_in_their_group_are_not_tried() {
        let (failed, calls) = failed(&["hot/a", "hot/break", "cold/b", "hot/c"], false).await;
        assert_eq!(failed, ["hot/break", "hot/c"]);
        assert_eq!(calls[1..], [vec!["a"], vec!["break"], vec!["b"]]);
    }

    #[tokio::test]
    async fn separate_groups_do_not_wait_for_each_other() {
        // `hang` never ends: the other group's answer must not depend on it.
        tokio::time::pause();
        let (failed, calls) = failed(&["hot/hang", "cold/b"], true).await;
        assert_eq!(failed, ["hot/hang"]);
        assert_eq!(calls.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn records_not_done_in_time_are_returned() {
        let (failed, _) = failed(&["a", "hang"], false).await;
        assert_eq!(failed, ["a", "hang"]);
    }

    #[tokio::test]
    async fn record_without_a_disposition_is_returned() {
        let (failed, _) = failed(&["forget", "a"], false).await;
        assert_eq!(failed, ["forget"]);
    }
}
