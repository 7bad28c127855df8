//! Claims about the queues between the stages, FIFO by account.

use std::collections::BTreeMap;
use std::time::Duration;

use signpost_txmgr::inbox::{Inbox, Incoming};
use signpost_txmgr::ports::{BroadcastQueue, ResignQueue};
use signpost_txmgr::wire::{LanePoke, SignerPoke, WireKind};

/// A queue with both ends.
#[derive(Debug, Clone)]
pub struct Pipe<Q, I> {
    /// Where pokes go in.
    pub queue: Q,
    /// Where they come out.
    pub inbox: I,
}

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! queue_claims {
    ($each:ident) => {
        $each! { queue:
            every_lane_poked_arrives_under_its_account,
            every_request_poked_arrives_as_it_was_sent,
            the_pokes_of_a_lane_come_in_order_and_one_worker_has_them,
            lanes_do_not_wait_for_each_other,
            a_message_given_back_comes_again,
            a_poke_repeated_within_minutes_is_one_message,
        }
    };
}

fn lane(at: u32) -> String {
    format!("97:0x{at:040x}")
}

fn poke(at: u32, cause: &str) -> LanePoke {
    LanePoke { account: lane(at), cause: cause.to_owned() }
}

fn causes(taken: &[Incoming]) -> Vec<String> {
    let cause = |taken: &Incoming| serde_json::from_str::<LanePoke>(&taken.body).unwrap().cause;
    taken.iter().map(cause).collect()
}

fn receipts(taken: &[Incoming]) -> Vec<&str> {
    taken.iter().map(|message| message.receipt.as_str()).collect()
}

async fn acknowledge(inbox: &impl Inbox, taken: &[Incoming]) {
    inbox.delete(&receipts(taken)).await.unwrap();
}

/// Takes and acknowledges until nothing is there.
async fn drain(inbox: &impl Inbox) -> Vec<Incoming> {
    let mut all = Vec::new();
    loop {
        let taken = inbox.receive().await.unwrap();
        if taken.is_empty() {
            return all;
        }
        acknowledge(inbox, &taken).await;
        all.extend(taken);
    }
}

/// More than one batch.
pub async fn every_lane_poked_arrives_under_its_account(pipe: &Pipe<impl BroadcastQueue, impl Inbox>) {
    let pokes: Vec<LanePoke> = (0..23).map(|at| poke(at, "signed")).collect();
    pipe.queue.poke_lanes(&pokes).await.unwrap();
    pipe.queue.poke_lanes(&[]).await.unwrap();
    let arrived: BTreeMap<String, LanePoke> = drain(&pipe.inbox)
        .await
        .into_iter()
        .map(|taken| (taken.group.expect("a FIFO queue has groups"), serde_json::from_str(&taken.body).unwrap()))
        .collect();
    assert_eq!(arrived, pokes.into_iter().map(|poke| (poke.account.clone(), poke)).collect());
}

/// With and without a price.
pub async fn every_request_poked_arrives_as_it_was_sent(pipe: &Pipe<impl ResignQueue, impl Inbox>) {
    let poke = |at: usize| SignerPoke {
        account: lane(1),
        request_id: format!("r-{at}"),
        attempt: at,
        kind: if at == 0 { WireKind::Execute } else { WireKind::Cancel },
        fee: (at > 0).then(|| signpost_txmgr::wire::WireFee::Legacy { gas_price: "110".to_owned() }),
        to_self: 0,
        cause: "unsigned".to_owned(),
    };
    let pokes: Vec<SignerPoke> = (0..12).map(poke).collect();
    pipe.queue.poke_signer(&pokes).await.unwrap();
    let arrived: Vec<SignerPoke> =
        drain(&pipe.inbox).await.iter().map(|taken| serde_json::from_str(&taken.body).unwrap()).collect();
    assert_eq!(arrived, pokes);
}

/// The group's lock is the lane's lease.
pub async fn the_pokes_of_a_lane_come_in_order_and_one_worker_has_them(pipe: &Pipe<impl BroadcastQueue, impl Inbox>) {
    let pokes: Vec<LanePoke> = (0..12).map(|at| poke(1, &format!("{at:02}"))).collect();
    pipe.queue.poke_lanes(&pokes).await.unwrap();
    let mut all = Vec::new();
    loop {
        let taken = pipe.inbox.receive().await.unwrap();
        if taken.is_empty() {
            break;
        }
        assert!(pipe.inbox.receive().await.unwrap().is_empty(), "the lane is in hand");
        acknowledge(&pipe.inbox, &taken).await;
        all.extend(causes(&taken));
    }
    assert_eq!(all, (0..12).map(|at| format!("{at:02}")).collect::<Vec<_>>());
}

/// A slow lane holds up no other.
pub async fn lanes_do_not_wait_for_each_other(pipe: &Pipe<impl BroadcastQueue, impl Inbox>) {
    pipe.queue.poke_lanes(&[poke(1, "first")]).await.unwrap();
    let slow = pipe.inbox.receive().await.unwrap();
    assert_eq!(causes(&slow), ["first"]);
    pipe.queue.poke_lanes(&[poke(1, "second"), poke(2, "other")]).await.unwrap();
    let other = pipe.inbox.receive().await.unwrap();
    assert_eq!(causes(&other), ["other"]);
    acknowledge(&pipe.inbox, &slow).await;
    assert_eq!(causes(&pipe.inbox.receive().await.unwrap()), ["second"]);
}

/// Counted.
pub async fn a_message_given_back_comes_again(pipe: &Pipe<impl BroadcastQueue, impl Inbox>) {
    pipe.queue.poke_lanes(&[poke(1, "once")]).await.unwrap();
    for receives in 1..4 {
        let taken = pipe.inbox.receive().await.unwrap();
        assert_eq!((causes(&taken), taken[0].receives), (vec!["once".to_owned()], receives));
        pipe.inbox.hold(&receipts(&taken), Duration::ZERO).await.unwrap();
    }
    assert_eq!(drain(&pipe.inbox).await.len(), 1);
    assert!(pipe.inbox.receive().await.unwrap().is_empty());
}

/// Another cause makes another message.
pub async fn a_poke_repeated_within_minutes_is_one_message(pipe: &Pipe<impl BroadcastQueue, impl Inbox>) {
    pipe.queue.poke_lanes(&[poke(1, "a"), poke(1, "a")]).await.unwrap();
    pipe.queue.poke_lanes(&[poke(1, "a"), poke(1, "b")]).await.unwrap();
    assert_eq!(causes(&drain(&pipe.inbox).await), ["a", "b"]);
    pipe.queue.poke_lanes(&[poke(1, "a")]).await.unwrap();
    assert!(drain(&pipe.inbox).await.is_empty(), "also after the first was acknowledged");
}
