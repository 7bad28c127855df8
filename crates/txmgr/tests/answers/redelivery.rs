//! A message that is redelivered after something has changed.

use futures_util::FutureExt as _;
use signpost_txmgr::account::SeenFee;
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{Phase, Rejected, Settlement, Stored};
use signpost_txmgr::request::Message;
use signpost_txmgr::units::{AccountKey, ChainId, Digest, RequestId, Wei};

use crate::world::{NOW, RULES, bad, from, handle, handle_all, message, transfer, world};

#[test]
fn accepted_message_is_not_refused_when_accounts_are_added() {
    let world = world(&["one"]);
    let batch = [transfer(0, "r-1", None)];
    handle_all(&world.signer(RULES), &batch, NOW);
    world.register("two");
    handle_all(&world.signer(RULES), &batch, NOW.plus(1_000));
    world.assert_outcomes(&[]);
    assert_eq!(world.status("r-1"), "signed");
}

#[test]
fn accepted_message_is_not_refused_when_its_pool_is_removed() {
    let world = world(&["one"]);
    let pooled = format!("{RULES}[pool.p]\naccounts = [\"one\"]\n");
    let batch = [transfer(0, "r-1", Some("pool:p"))];
    handle_all(&world.signer(&pooled), &batch, NOW);
    handle_all(&world.signer(RULES), &batch, NOW.plus(1_000));
    world.assert_outcomes(&[]);
    assert_eq!(world.status("r-1"), "signed");
}

#[test]
fn record_without_message_id_still_answers_its_message() {
    let world = world(&["one"]);
    let batch = [transfer(0, "r-1", None)];
    handle_all(&world.signer(RULES), &batch, NOW);
    world.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("r-1")) else { panic!("it was reserved") };
        record.message_id = None;
    });
    world.register("two");
    handle_all(&world.signer(RULES), &batch, NOW.plus(1_000));
    world.assert_outcomes(&[]);
}

#[test]
fn record_answers_its_message_despite_another_digest() {
    // As if a version that reads the body differently had stored it.
    let world = world(&["one"]);
    let batch = [transfer(0, "r-1", Some("one"))];
    handle_all(&world.signer(RULES), &batch, NOW);
    world.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("r-1")) else { panic!("it was reserved") };
        record.digest = Digest([7; 32]);
    });
    handle_all(&world.signer(RULES), &batch, NOW.plus(1_000));
    world.assert_outcomes(&[]);
}

#[test]
fn same_contents_for_another_account_are_a_conflict() {
    let world = world(&["one", "two"]);
    let signer = world.signer(RULES);
    handle_all(&signer, &[transfer(0, "r-1", Some("one"))], NOW);
    let two = world.store.with_tables(|tables| tables.names[&"two".parse().unwrap()]);
    for (at, name) in [(1, "two".to_owned()), (2, two.to_string()), (3, two.address.to_string())] {
        handle_all(&signer, &[transfer(at, "r-1", Some(&name))], NOW);
    }
    let conflicts = ["m-1", "m-2", "m-3"].map(|by| (format!("sqs:{by}"), "requestIdReused".to_owned(), by.to_owned()));
    assert_eq!(world.outcomes(), conflicts);
}

#[test]
fn same_contents_on_another_chain_are_a_conflict() {
    // Two Signposts on the same tables: a record of one does not answer a request of the other.
    let world = world(&["one"]);
    let signer = world.signer(RULES);
    handle_all(&signer, &[transfer(0, "r-1", None)], NOW);
    world.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("r-1")) else { panic!("it was reserved") };
        let there = AccountKey { chain_id: ChainId(56), ..record.account };
        record.account = there;
        let Ok(Message::Sign(request)) = Message::parse(&transfer(0, "r-1", None).body) else { panic!("it is one") };
        record.digest = request.digest(&there);
    });
    handle_all(&signer, &[transfer(1, "r-1", None)], NOW);
    world.assert_outcomes(&[("sqs:m-1", "requestIdReused", "m-1")]);
}

/// The first message waits for KMS. The second one is refused and held back behind it.
fn held_back(account: &str, policy: &str, code: &str, change: impl FnOnce(&crate::world::World)) {
    let world = world(&["one", "two"]);
    let two = world.store.with_tables(|tables| tables.names[&"two".parse().unwrap()]);
    world.pause(&two, code == "accountPaused");
    let signer = world.signer(policy);
    signer.warm_up(NOW).now_or_never().unwrap().unwrap();
    world.disable("one", true);
    let batch = [transfer(0, "a", Some("one")), transfer(1, "b", Some(account))];
    assert_eq!(handle(&signer, &batch, NOW), [Disposition::Retry; 2]);
    world.assert_outcomes(&[("b", code, "m-1")]);
    world.disable("one", false);
    world.pause(&two, false);
    change(&world);
    handle_all(&world.signer(RULES), &batch, NOW.plus(600_000));
    world.assert_outcomes(&[("b", code, "m-1")]);
    assert_eq!((world.status("a"), world.status("b")), ("signed", "rejected"), "{code}");
    assert_eq!(world.topic.copies().len(), 2, "it was published again");
}

#[test]
fn refused_message_held_back_stays_refused_when_resumed() {
    held_back("two", RULES, "accountPaused", |_| {});
}

#[test]
fn refused_message_held_back_stays_refused_when_price_is_known() {
    let only_one = "[default]\nmax_gas_price_wei = 1000000000\n\
        [account.one]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n";
    held_back("two", only_one, "noFee", |world| {
        let fee = SeenFee { gas_price: Wei::from(100_000_000), observed_at: NOW };
        let two = world.store.with_tables(|tables| tables.names[&"two".parse().unwrap()]);
        world.store.observe_fee(&two, &fee).now_or_never().unwrap().unwrap();
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
    let world = world(&["one"]);
    let batch = [transfer(0, "a", Some("two"))];
    handle_all(&world.signer(RULES), &batch, NOW);
    world.register("two");
    handle_all(&world.signer(RULES), &batch, NOW.plus(60_000));
    world.assert_outcomes(&[("a", "unknownAccount", "m-0")]);
    assert_eq!(world.status("a"), "rejected");
    handle_all(&world.signer(RULES), &[transfer(1, "a", Some("two"))], NOW.plus(60_000));
    assert_eq!(world.status("a"), "signed", "a new message is decided anew");
}

#[test]
fn refused_sender_stays_refused_when_policy_allows_it() {
    let world = world(&["one"]);
    let batch = [from("AIDANEW", transfer(0, "a", Some("one")))];
    handle_all(&world.signer(&format!("{RULES}allow_senders = [\"AIDAOLD\"]\n")), &batch, NOW);
    handle_all(&world.signer(RULES), &batch, NOW.plus(60_000));
    world.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
    assert_eq!(world.status("a"), "unknown");
}

#[test]
fn refusal_of_a_deadline_does_not_depend_on_the_time() {
    let world = world(&["one"]);
    let policy = format!("{RULES}max_deadline_s = 60\n");
    let good = transfer(0, "a", Some("one")).body;
    let at = |message: usize, id: &str| {
        let far = format!("\"deadline\":{},\"gas\"", NOW.0 / 1_000 + 3_600);
        crate::world::message(message, &good.replace("\"a\"", &format!("\"{id}\"")).replace("\"gas\"", &far))
    };
    let signer = world.signer(&policy);
    handle_all(&signer, &[at(0, "a")], NOW);
    handle_all(&signer, &[at(0, "a")], NOW.plus(5_000));
    handle_all(&signer, &[at(1, "b")], NOW.plus(5_000));
    world.assert_outcomes(&[("a", "deadlineTooFar", "m-0"), ("b", "deadlineTooFar", "m-1")]);
    let texts = world.topic.copies().into_iter().map(|copy| copy.reason.unwrap().message);
    assert_eq!(texts.collect::<std::collections::BTreeSet<_>>().len(), 1, "no text depends on the time");
}

#[test]
fn spend_refusal_does_not_reveal_the_remaining_amount() {
    let world = world(&["one"]);
    let signer = world.signer(&format!("{RULES}spend_limit_wei = 50000000000000\nspend_window_s = 60\n"));
    // A transfer may cost 21,000 gwei, and this 31,000.
    let expensive = |at: usize, id: &str| {
        let plain = transfer(at, id, Some("one"));
        Incoming { body: plain.body.replace("\"gas\"", "\"value\":10000000000000,\"gas\""), ..plain }
    };
    let refused = |id: &str| world.rejected(id).reason.message;
    handle_all(&signer, &[transfer(0, "a", Some("one")), expensive(1, "b"), transfer(2, "c", Some("one"))], NOW);
    handle_all(&signer, &[expensive(3, "d")], NOW.plus(1_000));
    assert_eq!(refused("b"), refused("d"), "29,000 gwei are left, and then 8,000");
    handle_all(&signer, &[transfer(4, "e", Some("one")), expensive(5, "f")], NOW.plus(60_000));
    assert_eq!(refused("b"), refused("f"), "nor the end of the window");
}

#[test]
fn unknown_account_refusal_does_not_list_known_accounts() {
    let world = world(&["one"]);
    handle_all(&world.signer(RULES), &[transfer(0, "a", Some("nobody"))], NOW);
    world.register("two");
    handle_all(&world.signer(RULES), &[transfer(1, "b", Some("nobody"))], NOW);
    let texts = ["a", "b"].map(|id| world.rejected(id).reason.message);
    assert_eq!(texts[0], texts[1]);
    assert!(!texts[0].contains("one"), "{}", texts[0]);
}

#[test]
fn refused_message_keeps_its_outcome_when_id_is_accepted() {
    let world = world(&["one"]);
    let signer = world.signer(RULES);
    let refused = [bad(0, "a", Some("one"))];
    handle_all(&signer, &refused, NOW);
    handle_all(&signer, &[transfer(1, "a", Some("one"))], NOW.plus(1_000));
    handle_all(&signer, &refused, NOW.plus(30_000));
    world.assert_outcomes(&[("a", "gasTooLow", "m-0")]);
    assert_eq!((world.topic.copies().len(), world.status("a")), (2, "signed"));
}

#[test]
fn refused_message_keeps_its_outcome_when_id_is_refused() {
    let world = world(&["one"]);
    let signer = world.signer(RULES);
    let first = [bad(0, "a", Some("one"))];
    let second = [message(1, r#"{"requestId":"a","account":"one","gas":1}"#)];
    for batch in [&first, &second, &first, &second, &first] {
        handle_all(&signer, batch, NOW);
    }
    world.assert_outcomes(&[("a", "gasTooLow", "m-0"), ("a", "missingField", "m-1")]);
    assert_eq!(world.topic.copies().len(), 5);
}

#[test]
fn refusal_is_copied_under_its_message_id_with_its_expiry() {
    let world = world(&["one"]);
    handle_all(&world.signer(RULES), &[bad(0, "a", Some("one"))], NOW);
    let (named, kept) = (world.rejected("a"), world.rejected("sqs:m-0"));
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
        let world = world(&["one"]);
        let signer = world.signer(RULES);
        handle_all(&signer, &[bad(0, "a", Some("one"))], NOW);
        world.store.with_tables(|tables| tables.requests.remove(&id("sqs:m-0")));
        handle_all(&signer, &[later], NOW);
        assert_eq!(world.rejected("sqs:m-0").said_as, Some(id("a")));
        handle_all(&signer, &[bad(0, "a", Some("one"))], NOW);
        assert_eq!(world.outcomes()[0], ("a".to_owned(), "gasTooLow".to_owned(), "m-0".to_owned()));
    }
}

#[test]
fn expired_item_answers_nothing_and_frees_its_id() {
    let world = world(&["one"]);
    let signer = world.signer(RULES);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    let at = NOW.plus(100_000);
    world.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&id("a")) else { panic!("it was reserved") };
        let (published_at, expires_at) = (Some(NOW), Some(at));
        let settlement =
            Settlement { verdict: displaced(), witnesses: Some(1), settled_at: NOW, published_at, expires_at };
        record.phase = Phase::Settled(settlement);
    });
    // The paused account refuses it; an item that has not expired would answer it.
    let one = world.record("a").account;
    world.pause(&one, true);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], at.plus(1));
    world.assert_outcomes(&[("a", "accountPaused", "m-0")]);
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
