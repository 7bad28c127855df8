//! Messages of senders that no policy lists: what they cost, and that each has one outcome.

use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::{Fate, FaultSource, Interceptor};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::record::{CancelCause, Record, Stored};

use crate::fixture::{NOW, RULES, bad, cancel, fixture, from, handle, handle_all, message, transfer};

const POLICY: &str = "[account.one]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n\
    allow_senders = [\"AIDAGOOD\"]\ncancel_senders = [\"AROADESK:*\"]\n";
const DAY_MS: u64 = 86_400_000;

/// Records every call of the store, and may fail one.
#[derive(Debug, Default)]
struct Watched {
    calls: Mutex<Vec<&'static str>>,
    failing: Mutex<Option<(&'static str, Fate)>>,
}

impl Watched {
    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn fail(&self, operation: &'static str, fate: Fate) {
        *self.failing.lock().unwrap() = Some((operation, fate));
    }
}

impl FaultSource for Watched {
    fn fate(&self, operation: &'static str) -> Fate {
        self.calls.lock().unwrap().push(operation);
        let mut failing = self.failing.lock().unwrap();
        failing.take_if(|(failing, _)| *failing == operation).map_or(Fate::Pass, |(_, fate)| fate)
    }
}

fn again(message: &Incoming) -> Incoming {
    Incoming { receives: message.receives.saturating_add(1), ..message.clone() }
}

fn junk() -> Vec<Incoming> {
    let bodies = [
        transfer(0, "a", Some("one")),
        transfer(1, "a", Some("nobody")),
        bad(2, "b", Some("one")),
        cancel(3, "c"),
        message(4, "not JSON"),
        message(5, r#"{"requestId":"d","privateKey":"x"}"#),
        message(6, r#"{"requestId":"e","to":null,"gas":5,"metadata":{"long":"text"}}"#),
    ];
    bodies.into_iter().map(|body| from("AIDAEVIL", body)).collect()
}

#[test]
fn message_of_a_stranger_costs_one_write_and_no_read() {
    let fixture = fixture(&["one"]);
    let watched = Arc::new(Watched::default());
    let signer = fixture.signer_behind(POLICY, Interceptor::with(watched.clone()));
    let junk = junk();
    handle_all(&signer, &junk, NOW);
    assert_eq!(watched.take(), vec!["PutItem"; junk.len()], "the store gets no other call");
    let outcomes = fixture.outcomes();
    assert_eq!(outcomes.len(), junk.len(), "each is answered once");
    for (id, code, by) in &outcomes {
        assert_eq!((id.as_str(), code.as_str()), (format!("sqs:{by}").as_str(), "senderNotAllowed"));
        let rejected = fixture.rejected(id);
        assert_eq!(rejected.expires_at, Some(NOW.plus(DAY_MS)), "kept for a day");
        assert_eq!((rejected.metadata, rejected.published_at), (None, Some(NOW)), "and not written again");
    }
    let names = |at: usize| fixture.rejected(&format!("sqs:m-{at}")).reason.request_id.map(|id| id.to_string());
    assert_eq!((names(0), names(3), names(4)), (Some("a".to_owned()), Some("c".to_owned()), None));
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(fixture.status(id), "unknown", "nothing is published under {id}");
    }
}

#[test]
fn strangers_do_not_affect_other_messages_of_the_batch() {
    let fixture = fixture(&["one"]);
    let mut batch = junk();
    batch.insert(1, from("AIDAGOOD", transfer(10, "a", Some("one"))));
    batch.push(from("AIDAGOOD", transfer(11, "b", Some("one"))));
    handle_all(&fixture.signer(POLICY), &batch, NOW);
    assert_eq!((fixture.status("a"), fixture.status("b")), ("signed", "signed"));
    assert_eq!(fixture.outcomes().len(), batch.len() - 2);
}

#[test]
fn message_has_one_outcome_despite_lost_replies() {
    for fate in [Fate::Fail { happened: signpost_txmgr::ports::Happened::No, throttled: true }, Fate::LoseReply] {
        let fixture = fixture(&["one"]);
        let watched = Arc::new(Watched::default());
        watched.fail("PutItem", fate);
        let signer = fixture.signer_behind(POLICY, Interceptor::with(watched.clone()));
        let stranger = from("AIDAEVIL", transfer(0, "a", Some("one")));
        assert_eq!(handle(&signer, std::slice::from_ref(&stranger), NOW), [Disposition::Retry]);
        fixture.assert_outcomes(&[]);
        handle_all(&signer, &[again(&stranger)], NOW.plus(1_000));
        fixture.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
        assert_eq!(fixture.rejected("sqs:m-0").expires_at.map(|at| at.since(NOW) / 10_000), Some(DAY_MS / 10_000));
    }
}

#[test]
fn messages_behind_a_stranger_in_a_group_keep_their_order() {
    let fixture = fixture(&["one"]);
    let watched = Arc::new(Watched::default());
    watched.fail("PutItem", Fate::Fail { happened: signpost_txmgr::ports::Happened::No, throttled: true });
    let signer = fixture.signer_behind(POLICY, Interceptor::with(watched.clone()));
    let batch = [from("AIDAEVIL", transfer(0, "x", None)), from("AIDAGOOD", transfer(1, "y", Some("one")))];
    assert_eq!(handle(&signer, &batch, NOW), [Disposition::Retry; 2]);
    assert_eq!(fixture.status("y"), "unknown", "one group, and the first is not answered");
    let batch = batch.map(|message| again(&message));
    handle_all(&signer, &batch, NOW);
    assert_eq!(fixture.status("y"), "signed");
    fixture.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
}

#[test]
fn accepted_message_is_not_refused_when_policy_drops_sender() {
    let fixture = fixture(&["one"]);
    let request = from("AIDAOLD", transfer(0, "a", Some("one")));
    handle_all(&fixture.signer(RULES), std::slice::from_ref(&request), NOW);
    handle_all(&fixture.signer(POLICY), &[again(&request)], NOW);
    fixture.assert_outcomes(&[]);
    assert_ne!(fixture.status("a"), "rejected");
    let asked = from("AIDAOLD", cancel(1, "a"));
    handle_all(&fixture.signer(RULES), std::slice::from_ref(&asked), NOW);
    handle_all(&fixture.signer(POLICY), &[again(&asked)], NOW);
    fixture.assert_outcomes(&[]);
    assert_eq!(fixture.record("a").cancel, Some(CancelCause::Asked));
}

#[test]
fn redelivered_message_is_refused_with_the_same_outcome() {
    let outcomes = |receives: u32, is_taken: bool| {
        let fixture = fixture(&["one"]);
        if is_taken {
            handle_all(&fixture.signer(POLICY), &[from("AIDAGOOD", transfer(9, "a", Some("one")))], NOW);
        }
        for message in junk() {
            handle_all(&fixture.signer(POLICY), &[Incoming { receives, ..message }], NOW);
        }
        fixture.topic.copies().into_iter().map(|copy| (copy.event_id, copy.reason)).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(1, false), outcomes(2, false));
    assert_eq!(outcomes(1, true), outcomes(2, true));
    assert_eq!(outcomes(1, false), outcomes(1, true), "a stranger does not learn which ids are used");
}

#[test]
fn sender_that_may_only_cancel_is_not_a_stranger() {
    let fixture = fixture(&["one"]);
    handle_all(&fixture.signer(POLICY), &[from("AIDAGOOD", transfer(0, "a", Some("one")))], NOW);
    handle_all(&fixture.signer(POLICY), &[from("AROADESK:anne", cancel(1, "a"))], NOW);
    assert_eq!(fixture.record("a").cancel, Some(CancelCause::Asked));
    handle_all(&fixture.signer(POLICY), &[from("AIDAEVIL", cancel(2, "a"))], NOW);
    fixture.assert_outcomes(&[("sqs:m-2", "senderNotAllowed", "m-2")]);
}

#[test]
fn outcome_outlives_every_redelivery() {
    let fixture = fixture(&["one"]);
    let stranger = from("AIDAEVIL", transfer(0, "a", Some("one")));
    handle_all(&fixture.signer(POLICY), std::slice::from_ref(&stranger), NOW);
    // Policy allows the sender by now.
    handle_all(&fixture.signer(RULES), &[again(&stranger)], NOW.plus(DAY_MS - 1_000));
    fixture.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
    assert!(!matches!(fixture.stored("a"), Some(Stored::Record(_))));
    handle_all(&fixture.signer(POLICY), &[again(&stranger)], NOW.plus(2 * DAY_MS));
    fixture.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
}

#[test]
fn record_keeps_the_max_head_time_of_its_policy() {
    let fixture = fixture(&["one"]);
    for (at, line, expected) in [(0, "", 600_000), (1, "max_head_s = 30\n", 30_000)] {
        let id = format!("r-{at}");
        handle_all(&fixture.signer(&format!("{RULES}{line}")), &[transfer(at, &id, Some("one"))], NOW);
        let Record { max_head_ms, capped_since, .. } = fixture.record(&id);
        assert_eq!((max_head_ms, capped_since), (Some(expected), None));
    }
}
