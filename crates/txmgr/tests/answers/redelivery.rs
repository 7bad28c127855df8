//! A message that is redelivered after something has changed.

use futures_util::FutureExt as _;
use signpost_txmgr::account::SeenFee;
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{Phase, Rejected, Settlement, Stored};
use signpost_txmgr::request::Message;
use signpost_txmgr::units::{AccountKey, ChainId, Digest, RequestId, Wei};

use crate::fixture::{NOW, RULES, bad, fixture, from, handle, handle_all, message, transfer};

#[test]
fn accepted_message_is_not_refused_when_accounts_are_added() {
    let fixture = fixture(&["one"]);
    let batch = [transfer(0, "r-1", None)];
    handle_all(&fixture.signer(RULES), &batch, NOW);
    fixture.register("two");
    handle_all(&fixture.signer(RULES), &batch, NOW.plus(1_000));
    fixture.assert_outcomes(&[]);
    assert_eq!(fixture.status("r-1"), "signed");
}

#[test]
fn accepted_message_is_not_refused_when_its_pool_is_removed() {
    let fixture = fixture(&["one"]);
    let pooled = format!("{RULES}[pool.p]\naccounts = [\"one\"]\n");
    let batch = [transfer(0, "r-1", Some("pool:p"))];
    handle_all(&fixture.signer(&pooled), &batch, NOW);
    handle_all(&fixture.signer(RULES), &batch, NOW.plus(1_000));
    fixture.assert_outcomes(&[]);
    assert_eq!(fixture.status("r-1"), "signed");
}

#[test]
fn record_without_message_id_still_answers_its_message() {
    let fixture = fixture(&["one"]);
    let batch = [transfer(0, "r-1", None)];
    handle_all(&fixture.signer(RULES), &batch, NOW);
    fixture.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("r-1")) else { panic!("it was reserved") };
        record.message_id = None;
    });
    fixture.register("two");
    handle_all(&fixture.signer(RULES), &batch, NOW.plus(1_000));
    fixture.assert_outcomes(&[]);
}

#[test]
fn record_answers_its_message_despite_another_digest() {
    // As if a version that reads the body differently had stored it.
    let fixture = fixture(&["one"]);
    let batch = [transfer(0, "r-1", Some("one"))];
    handle_all(&fixture.signer(RULES), &batch, NOW);
    fixture.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("r-1")) else { panic!("it was reserved") };
        record.digest = Digest([7; 32]);
    });
    handle_all(&fixture.signer(RULES), &batch, NOW.plus(1_000));
    fixture.assert_outcomes(&[]);
}

#[test]
fn same_contents_for_another_account_are_a_conflict() {
    let fixture = fixture(&["one", "two"]);
    let signer = fixture.signer(RULES);
    handle_all(&signer, &[transfer(0, "r-1", Some("one"))], NOW);
    let two = fixture.store.with_tables(|tables| tables.names[&"two".parse().unwrap()]);
    for (at, name) in [(1, "two".to_owned()), (2, two.to_string()), (3, two.address.to_string())] {
        handle_all(&signer, &[transfer(at, "r-1", Some(&name))], NOW);
    }
    let conflicts = ["m-1", "m-2", "m-3"].map(|by| (format!("sqs:{by}"), "requestIdReused".to_owned(), by.to_owned()));
    assert_eq!(fixture.outcomes(), conflicts);
}

#[test]
fn same_contents_on_another_chain_are_a_conflict() {
    // Two Signposts on the same tables: a record of one does not answer a request of the other.
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    handle_all(&signer, &[transfer(0, "r-1", None)], NOW);
    fixture.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("r-1")) else { panic!("it was reserved") };
        let there = AccountKey { chain_id: ChainId(56), ..record.account };
        record.account = there;
        let Ok(Message::Sign(request)) = Message::parse(&transfer(0, "r-1", None).body) else { panic!("it is one") };
        record.digest = request.digest(&there);
    });
    handle_all(&signer, &[transfer(1, "r-1", None)], NOW);
    fixture.assert_outcomes(&[("sqs:m-1", "requestIdReused", "m-1")]);
}

/// The first message waits for KMS. The second one is refused and held back behind it.
fn held_back(account: &str, policy: &str, code: &str, change: impl FnOnce(&crate::fixture::Fixture)) {
    let fixture = fixture(&["one", "two"]);
    let two = fixture.store.with_tables(|tables| tables.names[&"two".parse().unwrap()]);
    fixture.pause(&two, code == "accountPaused");
    let signer = fixture.signer(policy);
    signer.warm_up(NOW).now_or_never().unwrap().unwrap();
    fixture.disable("one", true);
    let batch = [transfer(0, "a", Some("one")), transfer(1, "b", Some(account))];
    assert_eq!(handle(&signer, &batch, NOW), [Disposition::Retry; 2]);
    fixture.assert_outcomes(&[("b", code, "m-1")]);
    fixture.disable("one", false);
    fixture.pause(&two, false);
    change(&fixture);
    handle_all(&fixture.signer(RULES), &batch, NOW.plus(600_000));
    fixture.assert_outcomes(&[("b", code, "m-1")]);
    assert_eq!((fixture.status("a"), fixture.status("b")), ("signed", "rejected"), "{code}");
    assert_eq!(fixture.topic.copies().len(), 2, "it was published again");
}

#[test]
fn refused_message_held_back_stays_refused_when_resumed() {
    held_back("two", RULES, "accountPaused", |_| {});
}

#[test]
fn refused_message_held_back_stays_refused_when_price_is_known() {
    let only_one = "[default]\nmax_gas_price_wei = 1000000000\n\
        [account.one]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n";
    held_back("two", only_one, "noFee", |fixture| {
        let fee = SeenFee { gas_price: Wei::from(100_000_000), observed_at: NOW };
        let two = fixture.store.with_tables(|tables| tables.names[&"two".parse().unwrap()]);
        fixture.store.observe_fee(&two, &fee).now_or_never().unwrap().unwrap();
    });
}

#[test]
fn refused_message_held_back_stays_refused_in_the_next_window() {
    let policy = format!("{RULES}spend_limit_wei = 30000000000000\nspend_window_s = 60\n");
    held_back("one", &policy, "spendLimitReached", |_| {});
}

#[test]
fn refused_message_held_back_stays_refused_under_a_new_policy() {
    held_back("two", &format!("[account.one]\n{}", &RULES[10..]), "noPolicy", |_| {});
}

#[test]
fn refused_message_stays_refused_when_its_account_is_registered() {
    let fixture = fixture(&["one"]);
    let batch = [transfer(0, "a", Some("two"))];
    handle_all(&fixture.signer(RULES), &batch, NOW);
    fixture.register("two");
    handle_all(&fixture.signer(RULES), &batch, NOW.plus(60_000));
    fixture.assert_outcomes(&[("a", "unknownAccount", "m-0")]);
    assert_eq!(fixture.status("a"), "rejected");
    handle_all(&fixture.signer(RULES), &[transfer(1, "a", Some("two"))], NOW.plus(60_000));
    assert_eq!(fixture.status("a"), "signed", "a new message is decided anew");
}

#[test]
fn refused_sender_stays_refused_when_policy_allows_it() {
    let fixture = fixture(&["one"]);
    let batch = [from("AIDANEW", transfer(0, "a", Some("one")))];
    handle_all(&fixture.signer(&format!("{RULES}allow_senders = [\"AIDAOLD\"]\n")), &batch, NOW);
    handle_all(&fixture.signer(RULES), &batch, NOW.plus(60_000));
    fixture.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
    assert_eq!(fixture.status("a"), "unknown");
}

#[test]
fn refusal_of_a_deadline_does_not_depend_on_the_time() {
    let fixture = fixture(&["one"]);
    let policy = format!("{RULES}max_deadline_s = 60\n");
    let good = transfer(0, "a", Some("one")).body;
    let at = |message: usize, id: &str| {
        let far = format!("\"deadline\":{},\"gas\"", NOW.0 / 1_000 + 3_600);
        crate::fixture::message(message, &good.replace("\"a\"", &format!("\"{id}\"")).replace("\"gas\"", &far))
    };
    let signer = fixture.signer(&policy);
    handle_all(&signer, &[at(0, "a")], NOW);
    handle_all(&signer, &[at(0, "a")], NOW.plus(5_000));
    handle_all(&signer, &[at(1, "b")], NOW.plus(5_000));
    fixture.assert_outcomes(&[("a", "deadlineTooFar", "m-0"), ("b", "deadlineTooFar", "m-1")]);
    let texts = fixture.topic.copies().into_iter().map(|copy| copy.reason.unwrap().message);
    assert_eq!(texts.collect::<std::collections::BTreeSet<_>>().len(), 1, "no text depends on the time");
}

#[test]
fn spend_refusal_does_not_reveal_the_remaining_amount() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(&format!("{RULES}spend_limit_wei = 50000000000000\nspend_window_s = 60\n"));
    // A transfer may cost 21,000 gwei, and this 31,000.
    let expensive = |at: usize, id: &str| {
        let plain = transfer(at, id, Some("one"));
        Incoming { body: plain.body.replace("\"gas\"", "\"value\":10000000000000,\"gas\""), ..plain }
    };
    let refused = |id: &str| fixture.rejected(id).reason.message;
    handle_all(&signer, &[transfer(0, "a", Some("one")), expensive(1, "b"), transfer(2, "c", Some("one"))], NOW);
    handle_all(&signer, &[expensive(3, "d")], NOW.plus(1_000));
    assert_eq!(refused("b"), refused("d"), "29,000 gwei are left, and then 8,000");
    handle_all(&signer, &[transfer(4, "e", Some("one")), expensive(5, "f")], NOW.plus(60_000));
    assert_eq!(refused("b"), refused("f"), "nor the end of the window");
}

#[test]
fn unknown_account_refusal_does_not_list_known_accounts() {
    let fixture = fixture(&["one"]);
    handle_all(&fixture.signer(RULES), &[transfer(0, "a", Some("nobody"))], NOW);
    fixture.register("two");
    handle_all(&fixture.signer(RULES), &[transfer(1, "b", Some("nobody"))], NOW);
    let texts = ["a", "b"].map(|id| fixture.rejected(id).reason.message);
    assert_eq!(texts[0], texts[1]);
    assert!(!texts[0].contains("one"), "{}", texts[0]);
}

#[test]
fn refused_message_keeps_its_outcome_when_id_is_accepted() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    let refused = [bad(0, "a", Some("one"))];
    handle_all(&signer, &refused, NOW);
    handle_all(&signer, &[transfer(1, "a", Some("one"))], NOW.plus(1_000));
    handle_all(&signer, &refused, NOW.plus(30_000));
    fixture.assert_outcomes(&[("a", "gasTooLow", "m-0")]);
    assert_eq!((fixture.topic.copies().len(), fixture.status("a")), (2, "signed"));
}

#[test]
fn refused_message_keeps_its_outcome_when_id_is_refused() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    let first = [bad(0, "a", Some("one"))];
    let second = [message(1, r#"{"requestId":"a","account":"one","gas":1}"#)];
    for batch in [&first, &second, &first, &second, &first] {
        handle_all(&signer, batch, NOW);
    }
    fixture.assert_outcomes(&[("a", "gasTooLow", "m-0"), ("a", "missingField", "m-1")]);
    assert_eq!(fixture.topic.copies().len(), 5);
}

#[test]
fn refusal_is_copied_under_its_message_id_with_its_expiry() {
    let fixture = fixture(&["one"]);
    handle_all(&fixture.signer(RULES), &[bad(0, "a", Some("one"))], NOW);
    let (named, kept) = (fixture.rejected("a"), fixture.rejected("sqs:m-0"));
    assert_eq!((named.published_at, named.said_as.clone()), (Some(NOW), None));
    assert_eq!(named.message_id.as_deref(), Some("m-0"));
    assert_eq!(named.expires_at, Some(NOW.plus(86_400_000)));
    let copy = Rejected { request_id: id("sqs:m-0"), said_as: Some(id("a")), published_at: None, ..named };
    assert_eq!(kept, copy);
}

#[test]
fn refusal_is_copied_before_its_id_is_reused() {
    // The signer died between the two writes, so there is no copy.
    for later in [transfer(1, "a", Some("one")), message(1, r#"{"requestId":"a"}"#)] {
        let fixture = fixture(&["one"]);
        let signer = fixture.signer(RULES);
        handle_all(&signer, &[bad(0, "a", Some("one"))], NOW);
        fixture.store.with_tables(|tables| tables.requests.remove(&id("sqs:m-0")));
        handle_all(&signer, &[later], NOW);
        assert_eq!(fixture.rejected("sqs:m-0").said_as, Some(id("a")));
        handle_all(&signer, &[bad(0, "a", Some("one"))], NOW);
        assert_eq!(fixture.outcomes()[0], ("a".to_owned(), "gasTooLow".to_owned(), "m-0".to_owned()));
    }
}

#[test]
fn expired_item_answers_nothing_and_frees_its_id() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    let at = NOW.plus(100_000);
    fixture.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("a")) else { panic!("it was reserved") };
        let (published_at, expires_at) = (Some(NOW), Some(at));
        let settlement =
            Settlement { verdict: displaced(), witnesses: Some(1), settled_at: NOW, published_at, expires_at };
        record.phase = Phase::Settled(settlement);
    });
    // The paused account refuses it; an item that has not expired would answer it.
    let one = fixture.record("a").account;
    fixture.pause(&one, true);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], at.plus(1));
    fixture.assert_outcomes(&[("a", "accountPaused", "m-0")]);
}

fn displaced() -> signpost_txmgr::record::Verdict {
    use signpost_txmgr::record::{BlockRef, Foreign, Verdict};
    use signpost_txmgr::units::{BlockHash, BlockNumber, TxHash};
    let block = BlockRef { number: BlockNumber(1), hash: BlockHash([1; 32]) };
    Verdict::Displaced(Foreign { tx_hash: TxHash([1; 32]), block })
}

fn id(text: &str) -> RequestId {
    text.parse().unwrap()
}
