//! `signpost account set-nonce`: sets the next nonce of a lane without open slots, after a check against the chain.

use signpost_txmgr::ports::{Chain as _, Store as _};
use signpost_txmgr::registration::counts::before;
use signpost_txmgr::units::Nonce;

use super::{counts_line, of_our_chain, show};
use crate::command::confirm::Yes;
use crate::command::registered::any_named;
use crate::command::{CommandError, ConfigOption};
use crate::ports;
use crate::terminal::remark;

pub(super) const HELP: &str = "\
Examples:
  signpost account show hot
  signpost account set-nonce hot 42

Use it when the account's next nonce differs from the chain's: after a restore of the tables, or after registration with
a wrong nonce. If only the chain is ahead, the broadcaster corrects the nonce by itself within minutes.
The command is refused while a slot is open, and for a nonce below the chain's count (it cannot be mined), of a
transaction in the node's pool, or of a finished request. A nonce above the count leaves a gap: nothing is mined until
other transactions fill it.";

/// The options.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name of the account
    #[arg(value_name = "NAME")]
    name: String,
    /// The nonce of the next request
    #[arg(value_name = "N")]
    nonce: u64,
    #[command(flatten)]
    yes: Yes,
    /// One JSON line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CommandError> {
    let Arguments { name, nonce, yes, json, config } = arguments;
    let nonce = Nonce(nonce);
    let session = config.open().await?;
    let store = ports::store(&session);
    let head = any_named(&store, &name).await?;
    let (name, account, next) = (&head.name, head.account, head.next_nonce);
    of_our_chain(&session, &account)?;
    let refused = |why: String| Err(CommandError::Input(why));
    if head.retired_at.is_some() {
        return refused(format!("{name} is retired and never signs again; its nonce has no effect"));
    }
    if head.open_slots() > 0 {
        let (open, lowest) = (head.open_slots(), head.lowest_open_nonce);
        let hint = format!("pause {name}, and wait for those in `signpost requests list --account {name} --open`");
        return refused(format!("{name} has {open} open slot(s) from nonce {lowest} on; {hint}"));
    }
    let counts = ports::chain(&session)?.counts(account.address).await?;
    let counted = counts_line(&counts);
    let current = format!("{name} continues at nonce {next}; the chain's transaction count is {counted}");
    let risk = match before(&counts, nonce) {
        Ok(risk) => risk,
        Err(unfit) => return refused(format!("{current}. {nonce} cannot be next: {unfit}")),
    };
    if let Some((taken, id)) = store.slots(&account, nonce, 1).await?.into_iter().next() {
        let hint = "see `signpost audit`";
        return refused(format!("{current}. Nonce {taken} already has a slot, of {id}, with an outcome; {hint}"));
    }
    if nonce == next {
        remark(format!("{current}; nothing to change"));
        show(&head, json);
        return Ok(());
    }
    let risk = risk.map(|risk| format!("\nNote that {risk}.")).unwrap_or_default();
    yes.or_ask(&format!("{current}.\nIts next request gets nonce {nonce}.{risk}"))?;
    if !store.set_nonce(&account, next, nonce).await? {
        return refused(format!("{name} got a request in the meantime, nothing changed; pause it, wait and try again"));
    }
    show(&any_named(&store, name.as_str()).await?, json);
    Ok(())
}
