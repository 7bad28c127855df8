//! `signpost account set-nonce`: puts a lane without open slots to another nonce, after showing what the chain says.

use signpost_txmgr::ports::{Chain as _, Store as _};
use signpost_txmgr::registration::counts::before;
use signpost_txmgr::units::Nonce;

use super::{counts_line, of_our_chain, show};
use crate::command::confirm::Yes;
use crate::command::registered::any_named;
use crate::command::{CommandError, ConfigOption};
use crate::terminal::remark;
use crate::world;

pub(super) const HELP: &str = "\
Examples:
  signpost account show hot
  signpost account set-nonce hot 42

For an account whose next nonce is not the one the chain takes next: after a table was restored, or after an account
was begun at the wrong one. Where only the chain is ahead, the broadcaster does it by itself within minutes. Refused
while a slot is open, below the chain's count (nothing can be mined there), within what is in the node's pool, and
where slots of finished requests stand. Above the count there is a gap, and nothing is mined until other
transactions have filled it.";

/// The options.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name it was registered with
    #[arg(value_name = "NAME")]
    name: String,
    /// The nonce the next request gets
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
    let store = world::store(&session);
    let head = any_named(&store, &name).await?;
    let (name, account, next) = (&head.name, head.account, head.next_nonce);
    of_our_chain(&session, &account)?;
    let refused = |why: String| Err(CommandError::Input(why));
    if head.retired_at.is_some() {
        return refused(format!("{name} is retired and signs nothing; its nonce does not matter"));
    }
    if head.open_slots() > 0 {
        let (open, lowest) = (head.open_slots(), head.lowest_open_nonce);
        let way_out = format!("pause {name}, and wait for what `signpost requests list --account {name} --open` shows");
        return refused(format!("{name} has {open} open slot(s) from nonce {lowest} on; {way_out}"));
    }
    let counts = world::chain(&session)?.counts(account.address).await?;
    let stands = format!("{name} goes on at nonce {next}; the chain's transaction count is {}", counts_line(&counts));
    let risk = match before(&counts, nonce) {
        Ok(risk) => risk,
        Err(unfit) => return refused(format!("{stands}. {nonce} cannot be next: {unfit}")),
    };
    if let Some((taken, id)) = store.slots(&account, nonce, 1).await?.into_iter().next() {
        let way_out = "`signpost audit` tells more";
        return refused(format!("{stands}. Nonce {taken} has a slot already, of {id}, with an outcome; {way_out}"));
    }
    if nonce == next {
        remark(format!("{stands}; nothing is to be changed"));
        show(&head, json);
        return Ok(());
    }
    let risk = risk.map(|risk| format!("\nNote that {risk}.")).unwrap_or_default();
    yes.or_ask(&format!("{stands}.\nIts next request gets nonce {nonce}.{risk}"))?;
    if !store.set_nonce(&account, next, nonce).await? {
        return refused(format!("{name} got a request meanwhile, nothing changed; pause it, wait and try again"));
    }
    show(&any_named(&store, name.as_str()).await?, json);
    Ok(())
}
