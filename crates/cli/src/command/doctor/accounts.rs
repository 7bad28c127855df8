//! Checks the accounts: keys, policy, balance, code, and use by other programs.

use std::collections::BTreeMap;

use aws_sdk_kms::types::{KeySpec, KeyState, KeyUsageType};
use signpost_host::start::policies;
use signpost_txmgr::account::{AsideCause, Head};
use signpost_txmgr::pins::Pin;
use signpost_txmgr::policy::Policies;
use signpost_txmgr::ports::{Chain, Counts, Keys as _};
use signpost_txmgr::signature::PublicKey;
use signpost_txmgr::units::{Millis, Wei};
use signpost_txmgr::unusable::KeyFault;

use super::Checks;
use crate::aws::reason;
use crate::command::registered::{others, registered};
use crate::command::{Session, error_chain};
use crate::{amount, ports};

/// Checks every registered account on the configured chain.
pub(super) async fn check(session: &Session, checks: &mut Checks) {
    let rules = match policies(&session.config.policy_file) {
        Ok(rules) => {
            checks.ok("policy file", session.config.policy_file.display().to_string());
            Some(rules)
        }
        Err(error) => {
            checks.problem("policy file", error_chain(&error), "correct it: a worker does not start without it");
            None
        }
    };
    let accounts = match registered(session).await {
        Ok(accounts) => accounts,
        Err(error) => {
            checks.problem("accounts", error_chain(&error), "check the accounts table and the permissions on it");
            return;
        }
    };
    let chain_id = session.config.chain.chain_id;
    match (others(&accounts), accounts.heads.is_empty() && accounts.unreadable.is_empty()) {
        (Some(others), true) => {
            let found = format!("{others}, and none on chain {chain_id}");
            checks.problem(
                "accounts",
                found,
                "a stage does not start with the tables of another Signpost: correct the tables or the chain id",
            );
        }
        (Some(others), false) => {
            checks.ok("accounts of other chains", format!("{others}: they belong to another Signpost and are ignored"));
        }
        (None, true) => {
            checks.problem("accounts", "none is registered", "`signpost account register NAME --kms-key KEY`");
        }
        (None, false) => {}
    }
    for entry in &accounts.unreadable {
        let todo = "its messages wait, all other accounts work: correct or restore the item, or update Signpost";
        checks.problem(format!("{}: head", entry.name), format!("cannot be read: {}", entry.problem), todo);
    }
    pinned(session, &accounts.heads, checks);
    let Ok(nodes) = ports::chain(session) else { return };
    let mut keys: BTreeMap<&str, &Head> = BTreeMap::new();
    for head in accounts.heads.iter().filter(|head| head.retired_at.is_none()) {
        if let Some(other) = keys.insert(head.kms_key_id.as_str(), head) {
            let found = format!("{} and {} have the same key", other.name, head.name);
            checks.problem(format!("{}: key", head.name), found, "a key has one address: only one of them can sign");
        }
    }
    for head in &accounts.heads {
        one(session, head, rules.as_ref(), &nodes, checks).await;
    }
}

/// Checks that the configuration lists the registered accounts. Without a list, only the signer's own list counts.
fn pinned(session: &Session, heads: &[Head], checks: &mut Checks) {
    let Some(accounts) = &session.config.accounts else { return };
    let pins = match signpost_signer::guard::pins(session.config.chain.chain_id, Some(accounts)) {
        Ok(pins) => pins,
        Err(error) => {
            checks.problem("accounts", error_chain(&error), "correct the list: the signer does not start with it");
            return;
        }
    };
    for head in heads.iter().filter(|head| head.retired_at.is_none()) {
        if let Err(fault) = pins.check(head) {
            let todo = format!("nothing is signed for it; if it is yours, list {}", Pin::of(head));
            checks.problem(format!("{}: list", head.name), error_chain(&fault), todo);
        }
    }
}

async fn one(session: &Session, head: &Head, rules: Option<&Policies>, nodes: &impl Chain, checks: &mut Checks) {
    let what = |part: &str| format!("{}: {part}", head.name);
    slots(head, checks);
    if let Some(at) = head.retired_at {
        retired(session, head, at, checks).await;
        return;
    }
    if head.paused {
        checks.look(
            what("state"),
            "paused: requests are rejected",
            "run `signpost account resume` when it may sign again",
        );
    }
    if let Some(mark) = head.unusable {
        let found = format!("not signing since {}: {}", crate::when::date(mark.since), mark.fault.meaning());
        checks.problem(what("signer"), found, remedy(mark.fault));
    }
    if let Some(Err(refused)) = rules.map(|rules| rules.of(&head.name)) {
        let todo = format!("add [account.{}] or [default] with max_gas_price_wei to the policy file", head.name);
        checks.problem(what("policy"), refused.message, todo);
    }
    key(session, head, checks).await;
    on_chain(head, nodes, checks).await;
}

/// A retired account signs nothing: the state of its key is reported, and is never a problem.
async fn retired(session: &Session, head: &Head, at: Millis, checks: &mut Checks) {
    let key = match ports::keys(session).public_key(&head.kms_key_id).await {
        Ok(_) => "its key can still be read".to_owned(),
        Err(error) => format!("its key can no longer be used: {}", error_chain(&error)),
    };
    checks.ok(format!("{}: state", head.name), format!("retired {}; {key}", crate::when::date(at)));
}

/// The operator's remedy. The signer checks again once a minute while requests arrive.
fn remedy(fault: KeyFault) -> &'static str {
    match fault {
        KeyFault::Disabled => "enable the key, or retire the account",
        KeyFault::Unavailable => "check the key's state (aws kms describe-key)",
        KeyFault::Denied => {
            "allow the signer's role kms:GetPublicKey and kms:Sign on the key: see KmsKeyArns and the key's policy"
        }
        KeyFault::NotFound => "correct the key or its alias, or retire the account",
        KeyFault::PendingDeletion => "cancel the deletion and enable the key, or retire the account",
        KeyFault::Unfit | KeyFault::WrongAddress => {
            "the key was replaced by another one: correct the alias, or retire the account"
        }
        KeyFault::NotPinned => {
            "if the head is as you registered it, list it in the signer's deployment (SIGNPOST_ACCOUNTS); otherwise \
             somebody else changed the accounts table"
        }
    }
}

/// Reports slots that could not be closed: their requests have no outcome, or it was not published.
fn slots(head: &Head, checks: &mut Checks) {
    let what = format!("{}: slots", head.name);
    for slot in &head.set_aside {
        let todo = match slot.cause {
            AsideCause::Unproven => {
                "configure a node that keeps old states (`finalized` and archive), or check an explorer"
            }
            AsideCause::Unpublished => "see the topic's error in the broadcaster's log",
            AsideCause::Late => "see the broadcaster's log; it tries again every minute",
        };
        let since = crate::when::date(slot.since);
        checks.problem(&what, format!("{} is set aside since {since}: {}", slot.nonce, slot.cause.meaning()), todo);
    }
    for gap in &head.gaps {
        let found = format!("no request is stored for the nonces from {} to below {}", gap.from, gap.to);
        checks.look(
            &what,
            found,
            "tables restored from a backup: find the transactions with these nonces on the chain",
        );
    }
}

async fn key(session: &Session, head: &Head, checks: &mut Checks) {
    let what = format!("{}: key", head.name);
    let kms = aws_sdk_kms::Client::new(&session.sdk);
    let id = head.kms_key_id.as_str();
    let described = match kms.describe_key().key_id(id).send().await {
        Ok(answer) => answer.key_metadata,
        Err(error) => {
            checks.problem(what, reason(&error), "check that the key exists and the permissions on it");
            return;
        }
    };
    if let Some(key) = described {
        let right =
            key.key_spec() == Some(&KeySpec::EccSecgP256K1) && key.key_usage() == Some(&KeyUsageType::SignVerify);
        let enabled = key.key_state() == Some(&KeyState::Enabled);
        let name = |text: Option<&str>| text.unwrap_or("?").to_owned();
        let found = format!(
            "{id}, {}, {}",
            name(key.key_spec().map(KeySpec::as_str)),
            name(key.key_state().map(KeyState::as_str))
        );
        checks.expect(
            right && enabled,
            what.clone(),
            found,
            "nothing can be signed: the key must be ECC_SECG_P256K1, SIGN_VERIFY and Enabled",
        );
    }
    match ports::keys(session).public_key(&head.kms_key_id).await {
        Ok(answer) => match PublicKey::from_spki(&answer.spki) {
            Ok(public) => checks.expect(
                public.address() == head.account.address,
                format!("{}: address", head.name),
                format!("{}", head.account.address),
                format!("the key's address is {}: nothing is signed until the alias is corrected", public.address()),
            ),
            Err(error) => checks.problem(what, error_chain(&error), "the key was replaced by a key of another kind"),
        },
        Err(error) => checks.problem(what, error_chain(&error), "check the permission kms:GetPublicKey"),
    }
}

async fn on_chain(head: &Head, nodes: &impl Chain, checks: &mut Checks) {
    let what = |part: &str| format!("{}: {part}", head.name);
    let address = head.account.address;
    let unknown = "no node answered";
    match nodes.balance(address).await {
        Ok(balance) if balance == Wei::ZERO => {
            checks.look(what("balance"), "0 wei", format!("send BNB to {address}: it cannot pay for transactions"));
            checks.show_last_as(amount::wei(balance));
        }
        Ok(balance) => {
            checks.ok(what("balance"), format!("{balance} wei"));
            checks.show_last_as(amount::wei(balance));
        }
        Err(error) => checks.look(what("balance"), error_chain(&error), unknown),
    }
    match nodes.has_code(address).await {
        Ok(false) => checks.ok(what("code"), "none"),
        Ok(true) => checks.problem(
            what("code"),
            "the address has code (an EIP-7702 delegation)",
            "nodes accept only one pending transaction from it: remove the delegation, or use another key",
        ),
        Err(error) => checks.look(what("code"), error_chain(&error), unknown),
    }
    match nodes.counts(address).await {
        Ok(counts) => nonces(head, &counts, checks),
        Err(error) => checks.look(what("nonces"), error_chain(&error), unknown),
    }
}

/// Compares the lane's next nonce with the chain.
fn nonces(head: &Head, counts: &Counts, checks: &mut Checks) {
    let what = format!("{}: nonces", head.name);
    let (next, used) = (head.next_nonce, counts.latest);
    if used > next {
        checks.problem(
            what,
            format!("the chain has used {used}, the lane continues at {next}"),
            "another program uses the key, and requests get displaced: give each program its own key",
        );
    } else if counts.pending > next {
        checks.problem(
            what,
            format!("the pool has transactions up to {}, the lane continues at {next}", counts.pending),
            "another program uses the key, and they replace each other's transactions: give each program its own key",
        );
    } else if head.open_slots() == 0 && used < next {
        checks.problem(
            what,
            format!("the chain expects {used} next, the lane continues at {next}: nothing of it is mined"),
            format!("if the node is up to date, run `signpost account set-nonce {} {used}`", head.name),
        );
    } else {
        checks.ok(what, format!("{used} used, next {next}, {} slot(s) open", head.open_slots()));
    }
}
