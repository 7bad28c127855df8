//! The worlds that are explored, by name.

use super::world::{Faults, MessageSpec, World};

/// A plain request.
const fn ask(request: u8, content: u8) -> MessageSpec {
    MessageSpec { request, content, refused: false, by_rule: false, reverts: false, cancels: false, account: 0 }
}

/// A cancel of a request.
const fn cancel(request: u8) -> MessageSpec {
    MessageSpec { cancels: true, ..ask(request, request) }
}

const NO_FAULTS: Faults = Faults {
    crashes: 0,
    lost_replies: 0,
    redeliveries: 0,
    reorgs: 0,
    evictions: 0,
    foreign: 0,
    stale_views: 0,
    splits: 0,
    refusals: 0,
    outages: 0,
    null_receipts: 0,
    pauses: 0,
    shortages: 0,
    rule_changes: 0,
    held_back: 0,
};

/// Every world; all are small enough to explore on each push.
#[must_use]
pub fn all() -> Vec<World> {
    let base = World {
        name: "base",
        about: "two requests, two signers, one broadcaster; a crash and a lost reply",
        messages: vec![ask(0, 0), ask(1, 1)],
        accounts: 1,
        chains: false,
        signers: 2,
        broadcasters: 1,
        faults: Faults { crashes: 1, lost_replies: 1, ..NO_FAULTS },
        sweep: true,
        asks: false,
        bumps: false,
        capped: false,
        deadlines: false,
        cheap_cancels: false,
        attempts_max: 2,
    };
    let mut worlds = vec![
        World { name: "calm", about: "the base world without faults", faults: NO_FAULTS, ..base.clone() },
        World {
            name: "duplicates",
            about: "one request in two messages, and one of them is redelivered while it is processed",
            messages: vec![ask(0, 0), ask(0, 0)],
            faults: Faults { crashes: 1, lost_replies: 1, redeliveries: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "conflict",
            about: "one id with two contents; a crash, a lost reply and a second delivery",
            messages: vec![ask(0, 0), ask(0, 1)],
            faults: Faults { crashes: 1, lost_replies: 1, redeliveries: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "conflicts",
            about: "one id with three contents",
            messages: vec![ask(0, 0), ask(0, 1), ask(0, 2)],
            faults: NO_FAULTS,
            ..base.clone()
        },
        World {
            name: "refused",
            about: "one request is refused by policy, the other is reverted by the chain",
            messages: vec![MessageSpec { refused: true, ..ask(0, 0) }, MessageSpec { reverts: true, ..ask(1, 1) }],
            faults: Faults { crashes: 1, lost_replies: 1, redeliveries: 1, ..NO_FAULTS },
            ..base.clone()
        },
    ];
    worlds.extend(restless(&base));
    worlds.extend(cancelling(&base));
    worlds.extend(blind(&base));
    worlds.extend(pooled(&base));
    worlds.extend(answered(&base));
    worlds.push(two_chains(&base));
    worlds.push(base);
    worlds
}

/// Worlds with reorgs, bumps, deadlines and foreign transactions.
fn restless(base: &World) -> Vec<World> {
    vec![
        World {
            name: "reorg",
            about: "blocks are replaced, and the pool forgets",
            signers: 1,
            faults: Faults { reorgs: 1, evictions: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "nodes",
            about: "a node still follows the blocks that a reorg replaced",
            messages: vec![ask(0, 0)],
            signers: 1,
            faults: Faults { crashes: 1, reorgs: 1, evictions: 1, stale_views: 2, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "pokes",
            about: "no sweep: pokes alone keep the lane going, even after a crash",
            signers: 1,
            sweep: false,
            faults: Faults { crashes: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "passes",
            about: "two broadcasters on one lane, as if the queue's group lock did not exist",
            messages: vec![ask(0, 0)],
            signers: 1,
            broadcasters: 2,
            faults: Faults { crashes: 1, reorgs: 1, evictions: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "asks",
            about: "the broadcaster asks the signer for signatures that a crash may have lost",
            messages: vec![ask(0, 0)],
            faults: Faults { crashes: 2, lost_replies: 1, ..NO_FAULTS },
            asks: true,
            ..base.clone()
        },
        World {
            name: "bumps",
            about: "the head of the lane is replaced at a higher price, while blocks and the pool change",
            messages: vec![ask(0, 0)],
            signers: 1,
            asks: true,
            bumps: true,
            faults: Faults { crashes: 1, reorgs: 1, evictions: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "deadlines",
            about: "a deadline passes at any moment, and the slot is cancelled",
            messages: vec![ask(0, 0)],
            signers: 1,
            asks: true,
            deadlines: true,
            faults: Faults { crashes: 1, reorgs: 1, evictions: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "foreign",
            about: "the key is used elsewhere too, and the block with that use is replaced",
            signers: 1,
            faults: Faults { reorgs: 1, foreign: 1, ..NO_FAULTS },
            ..base.clone()
        },
    ]
}

/// Worlds in which requests are cancelled, and older attempts can still be mined.
fn cancelling(base: &World) -> Vec<World> {
    let one = World { messages: vec![ask(0, 0)], signers: 1, asks: true, attempts_max: 1, ..base.clone() };
    vec![
        World {
            name: "cancels",
            about: "a cancel is asked for at any moment, before the request has a nonce and up to its outcome",
            messages: vec![ask(0, 0), cancel(0)],
            signers: 2,
            faults: Faults { crashes: 1, lost_replies: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "stray-cancel",
            about: "a cancel of an unknown request",
            messages: vec![cancel(0)],
            signers: 2,
            faults: Faults { crashes: 1, lost_replies: 1, redeliveries: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "cancel-lane",
            about: "a request is cancelled while another is processed",
            messages: vec![ask(0, 0), ask(1, 1), cancel(0)],
            faults: NO_FAULTS,
            ..one.clone()
        },
        World {
            name: "cap",
            about: "a cancel at the cap pays no more than the attempt it replaces, which a second node may hold",
            messages: vec![ask(0, 0), cancel(0)],
            bumps: true,
            cheap_cancels: true,
            faults: Faults { evictions: 1, splits: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "capped-head",
            about: "the lane's head is at its cap for too long and is cancelled, and one waits behind it",
            messages: vec![ask(0, 0), ask(1, 1)],
            bumps: true,
            capped: true,
            faults: NO_FAULTS,
            ..one.clone()
        },
        World {
            name: "refusals",
            about: "a node refuses for good what another accepted, and the slot is cancelled",
            faults: Faults { crashes: 1, refusals: 1, splits: 1, evictions: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "second-node",
            about: "a second node still holds an older attempt when it is bumped, or the deadline passes",
            bumps: true,
            deadlines: true,
            faults: Faults { splits: 1, reorgs: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "bump-lane",
            about: "two requests, of which only the lane's head may be bumped",
            messages: vec![ask(0, 0), ask(1, 1)],
            bumps: true,
            faults: NO_FAULTS,
            ..one
        },
    ]
}

/// Worlds in which nodes do not answer, or answer wrongly.
fn blind(base: &World) -> Vec<World> {
    vec![
        World {
            name: "outage",
            about: "no node answers, or one returns the counts and no receipt, while blocks are replaced",
            messages: vec![ask(0, 0)],
            signers: 1,
            asks: true,
            bumps: true,
            attempts_max: 1,
            faults: Faults { outages: 1, null_receipts: 2, reorgs: 1, ..NO_FAULTS },
            ..base.clone()
        },
        World {
            name: "forks",
            about: "the key is used elsewhere in a block that is replaced, and a node still follows it",
            messages: vec![ask(0, 0)],
            signers: 1,
            faults: Faults { foreign: 1, reorgs: 1, stale_views: 2, ..NO_FAULTS },
            ..base.clone()
        },
    ]
}

/// Worlds in which requests are for a pool of two accounts.
fn pooled(base: &World) -> Vec<World> {
    let pool = World { accounts: 2, asks: true, attempts_max: 1, ..base.clone() };
    vec![
        World {
            name: "pool",
            about: "one request for a pool in two messages, while its accounts are paused and resumed",
            messages: vec![ask(0, 0), ask(0, 0)],
            faults: Faults { crashes: 1, pauses: 1, ..NO_FAULTS },
            ..pool.clone()
        },
        World {
            name: "pool-paused",
            about: "one message for a pool is redelivered while it is processed, and its accounts are paused",
            messages: vec![ask(0, 0)],
            faults: Faults { redeliveries: 1, pauses: 2, ..NO_FAULTS },
            ..pool.clone()
        },
        World {
            name: "pool-short",
            about: "one message for a pool is redelivered after a crash, while accounts are paused or cannot pay",
            messages: vec![ask(0, 0)],
            signers: 1,
            faults: Faults { crashes: 1, pauses: 2, shortages: 1, ..NO_FAULTS },
            ..pool.clone()
        },
        World {
            name: "pool-lanes",
            about: "two requests share a pool, and one of its accounts cannot pay",
            asks: false,
            faults: Faults { shortages: 1, ..NO_FAULTS },
            ..pool
        },
    ]
}

/// Worlds in which a refusal depends on a rule that changes, and a refused message is redelivered.
fn answered(base: &World) -> Vec<World> {
    let by_rule = |request, content| MessageSpec { by_rule: true, ..ask(request, content) };
    let one = World { messages: vec![by_rule(0, 0)], signers: 2, attempts_max: 1, ..base.clone() };
    vec![
        World {
            name: "rules",
            about: "a refused message is held back in its group and redelivered, while the rule changes",
            faults: Faults { crashes: 1, lost_replies: 1, redeliveries: 1, rule_changes: 2, held_back: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "resubmitted",
            about: "a refused request is sent again in a second message, and the first is redelivered",
            messages: vec![by_rule(0, 0), by_rule(0, 0)],
            faults: Faults { redeliveries: 1, rule_changes: 2, held_back: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "corrected",
            about: "a refused request is sent again with other contents under its id, and the first is redelivered",
            messages: vec![MessageSpec { refused: true, ..ask(0, 0) }, ask(0, 1)],
            faults: Faults { crashes: 1, redeliveries: 1, held_back: 1, ..NO_FAULTS },
            ..one.clone()
        },
        World {
            name: "late-request",
            about: "a cancel is refused because its request is unknown, and is redelivered when the request is known",
            messages: vec![ask(0, 0), cancel(0)],
            signers: 1,
            asks: true,
            faults: Faults { crashes: 1, held_back: 1, ..NO_FAULTS },
            ..one
        },
    ]
}

/// The world of two Signposts for two chains on the same tables, with one address on both.
fn two_chains(base: &World) -> World {
    World {
        name: "chains",
        about: "two Signposts for two chains share their tables, and the key is used elsewhere on one of them",
        messages: vec![ask(0, 0)],
        accounts: 2,
        chains: true,
        signers: 2,
        broadcasters: 2,
        attempts_max: 1,
        faults: Faults { foreign: 1, ..NO_FAULTS },
        ..base.clone()
    }
}

/// A world by its name.
#[must_use]
pub fn named(name: &str) -> Option<World> {
    all().into_iter().find(|world| world.name == name)
}

/// The same world with more faults: minutes, not seconds.
#[must_use]
pub fn deeper(world: World) -> World {
    let faults = world.faults;
    let more = |count: u8| if count == 0 { 0 } else { count + 1 };
    World {
        faults: Faults {
            crashes: faults.crashes + 1,
            lost_replies: more(faults.lost_replies),
            redeliveries: faults.redeliveries,
            reorgs: faults.reorgs,
            evictions: faults.evictions,
            foreign: faults.foreign,
            stale_views: more(faults.stale_views),
            splits: faults.splits,
            refusals: faults.refusals,
            outages: more(faults.outages),
            null_receipts: more(faults.null_receipts),
            pauses: faults.pauses,
            shortages: faults.shortages,
            rule_changes: faults.rule_changes,
            held_back: faults.held_back,
        },
        ..world
    }
}
