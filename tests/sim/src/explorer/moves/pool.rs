//! Chooses a request's account from a pool by the accounts' heads; the record keeps it. Also the operator, who pauses
//! accounts and funds them.
//!
//! Each request prefers one account of the pool. The real pool takes it from a hash; here request 0 prefers the first
//! account, request 1 the second.

use super::answers::BESIDE;
use super::signer::with;
use super::{Explorer, Moves};
use crate::explorer::check::Broken;
use crate::explorer::lane::{Claim, Standing};
use crate::explorer::mutants::ModelMutant;
use crate::explorer::world::{Facts, Item, Job, MessageSpec, RecordId, Signer, SignerStep, State, World};

impl Explorer<'_> {
    /// The first read of a request: its account's head, or the heads of its pool.
    pub(super) fn first_read(&self) -> SignerStep {
        if self.world.is_pool() { SignerStep::Choose } else { SignerStep::ReadHead }
    }

    /// Reads the head of the next account of the pool. After the last, chooses the best account by what was read, which
    /// may be outdated by now.
    pub(super) fn choose(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let (account, read) = (me.claim.read, me.claim.read + 1);
        let lane = state.lane(account);
        let home = self.ask(me).request;
        let worth = |claim: Claim| (claim.standing, claim.account == home);
        let seen = Claim { account, nonce: lane.next_nonce, standing: lane.standing(), read };
        let best = if account == 0 || worth(seen) > worth(me.claim) { seen } else { Claim { read, ..me.claim } };
        let chosen = match best.standing {
            Standing::Paused | Standing::PausedSince => {
                Claim { standing: Standing::Paused, read: 0, ..Claim::on(best.account) }
            }
            Standing::Unfunded | Standing::Open => Claim { standing: Standing::Open, read: 0, ..best },
        };
        let (step, claim) = match (usize::from(read) < self.world.accounts, chosen.is_closed()) {
            (true, _) => (SignerStep::Choose, best),
            (false, true) => (SignerStep::Load, chosen),
            (false, false) => (self.before_reserving(me), chosen),
        };
        out.step(with(state, at, Signer { step, claim, ..me }), || {
            let end = if step == SignerStep::Choose { "" } else { ", and chooses" };
            let chosen = if step == SignerStep::Choose { String::new() } else { format!(" account {}", claim.account) };
            format!("reads the head of account {account}: {:?}{end}{chosen}", lane.standing())
        });
    }

    /// Reads the head of the account that the request is assigned to.
    pub(super) fn read_head(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let lane = state.lane(me.claim.account);
        if lane.paused {
            // A pool may have another account, which the message finds when it is redelivered.
            let standing = if self.world.is_pool() { Standing::PausedSince } else { Standing::Paused };
            let claim = Claim { standing, ..Claim::on(me.claim.account) };
            out.step(with(state, at, Signer { step: SignerStep::Load, claim, ..me }), || {
                format!("reads the head: account {} is paused", claim.account)
            });
            return;
        }
        let claim = Claim { nonce: lane.next_nonce, ..me.claim };
        let after = with(state, at, Signer { step: self.before_reserving(me), claim, ..me });
        out.step(after, || format!("reads the head: next nonce is {}", claim.nonce));
    }

    /// A reservation that replaces a rejection keeps a copy of it first.
    fn before_reserving(&self, me: Signer) -> SignerStep {
        if me.read == 0 || self.is(ModelMutant::CopyNotKept) {
            SignerStep::Reserve
        } else {
            SignerStep::CopyThenReserve
        }
    }

    /// The step before a signature: a read of the account's head, unless it was read. For an account that is never
    /// paused the read is left out.
    pub(super) fn before_signing(&self, me: Signer, facts: &Facts) -> (SignerStep, &'static str) {
        let has_head = match me.job {
            Job::Message(_) => me.claim.account == facts.account || self.is(ModelMutant::SignedByAssigned),
            Job::Resign(_) | Job::None => false,
        };
        match (self.world.is_pool(), has_head, me.claim.is_closed()) {
            (false, _, _) | (true, true, false) => (SignerStep::Sign, "it is reserved and not signed"),
            (true, true, true) => (self.after_store(), "it is reserved, and its account is paused"),
            (true, false, _) => (SignerStep::ReadItsHead, "it is not signed, and has an account of its own"),
        }
    }

    /// Reads the head of the record's own account. A paused account signs nothing; the broadcaster asks again later.
    pub(super) fn read_its_head(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let account = self.machine_cache.facts(me.record).account;
        let then = if state.lane(account).paused {
            Signer { step: self.after_store(), record: RecordId::NONE, claim: Claim::NONE, ..me }
        } else {
            Signer { step: SignerStep::Sign, claim: Claim::on(account), ..me }
        };
        out.step(with(state, at, then), || {
            format!("reads the head of account {account}, which has its slot: {:?}", state.lane(account).standing())
        });
    }

    /// A repeat is about to be refused as a conflict, though the recorded request is its own.
    pub(super) fn false_conflict(&self, state: &State, me: Signer) -> Option<Broken> {
        let MessageSpec { request, content, refused, cancels, .. } = self.ask(me);
        let Item::Record(record) = state.table[usize::from(request)] else { return None };
        let as_conflict = me.stamp >= BESIDE && !refused && !cancels && !me.claim.is_closed();
        (as_conflict && self.machine_cache.facts(record).content == content)
            .then(|| Broken::new("I8", format!("a repeat of request {request} is refused because its id is used")))
    }
}

/// Everything the operator may do. Pauses and shortages are faults, their repairs are steps.
pub(super) fn operator_moves(world: &World, state: &State, out: &mut Moves<'_>) {
    if state.faults.rule_changes > 0 {
        let mut after = *state;
        after.tight = !state.tight;
        after.faults.rule_changes -= 1;
        out.fault(after, || if state.tight { "opens the rule".to_owned() } else { "tightens the rule".to_owned() });
    }
    for account in 0..world.accounts as u8 {
        let mut after = *state;
        let lane = after.lane_mut(account);
        if lane.paused {
            lane.paused = false;
            out.step(after, || format!("resumes account {account}"));
        } else if state.faults.pauses > 0 {
            lane.paused = true;
            after.faults.pauses -= 1;
            out.fault(after, || format!("pauses account {account}"));
        }
        let mut after = *state;
        let lane = after.lane_mut(account);
        if lane.unfunded {
            lane.unfunded = false;
            out.step(after, || format!("gives account {account} funds"));
        } else if state.faults.shortages > 0 {
            lane.unfunded = true;
            after.faults.shortages -= 1;
            out.fault(after, || format!("finds that account {account} cannot pay"));
        }
    }
}
