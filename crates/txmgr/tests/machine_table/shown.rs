//! Formats records and actions for the tables.

use std::fmt::Write as _;

use signpost_txmgr::machine::{Action, SignerAsk};
use signpost_txmgr::record::{AttemptKind, CancelCause, Receipt, Record};
use signpost_txmgr::tx::Fee;

pub(crate) fn kind(kind: AttemptKind) -> &'static str {
    match kind {
        AttemptKind::Execute => "execute",
        AttemptKind::Cancel => "cancel",
    }
}

/// Formats one field, or both as `max/priority`.
pub(crate) fn shown(fee: Fee) -> String {
    match fee {
        Fee::Legacy { gas_price } => gas_price.to_string(),
        Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
            format!("{max_fee_per_gas}/{max_priority_fee_per_gas}")
        }
    }
}

pub(crate) fn place(receipt: &Receipt) -> String {
    format!("tx {} in block {}/{}", receipt.tx_hash.0[0], receipt.block.number, receipt.block.hash.0[0])
}

pub(crate) fn cause(cause: &CancelCause) -> String {
    match cause {
        CancelCause::Asked => "asked".to_owned(),
        CancelCause::Deadline => "deadline".to_owned(),
        CancelCause::Refused(words) => format!("refused: {words}"),
        CancelCause::AtCap => "at its cap".to_owned(),
        CancelCause::Policy(reason) => format!("policy: {}", reason.code),
    }
}

pub(crate) fn describe(record: &Record) -> String {
    let mut text = record.phase.name().to_owned();
    if let Some(receipt) = record.phase.receipt() {
        write!(text, ", {}", place(receipt)).unwrap();
    }
    if record.is_closed() {
        text.push_str(", closed");
    }
    for (number, attempt) in record.attempts.iter().enumerate() {
        let answer = attempt.sent.as_ref().map_or("unsent", |sent| sent.answer.class.name());
        write!(text, " | #{number} {} at {} {answer}", kind(attempt.kind), shown(attempt.fee)).unwrap();
    }
    if let Some(wanted) = &record.cancel {
        write!(text, " | cancel {}", cause(wanted)).unwrap();
    }
    if record.capped_since.is_some() {
        text.push_str(" | at its cap");
    }
    if let Some(inquiry) = &record.inquiry {
        write!(text, " | inquires about {}", inquiry.subject.name()).unwrap();
    }
    text
}

pub(crate) fn describe_action(action: &Action) -> String {
    match action {
        Action::Wait => "wait".to_owned(),
        Action::AskSigner(SignerAsk { number, kind: wanted, fee }) => {
            let price = fee.map_or("the record's price".to_owned(), shown);
            format!("ask for #{number} {} at {price}", kind(*wanted))
        }
        Action::Send { number } => format!("send #{number}"),
        Action::NoteCancel(wanted) => format!("note cancel: {}", cause(wanted)),
        Action::NoteAtCap(since) => format!("note at its cap since {since}"),
        Action::NoteMined(receipt) => format!("note mined: {}", place(receipt)),
        Action::NoteUnmined => "note unmined".to_owned(),
        Action::Settle { receipt, witnesses } => format!("settle by {witnesses}: {}", place(receipt)),
        Action::FindUse => "find the use".to_owned(),
        Action::Publish => "publish".to_owned(),
        Action::Leave => "leave".to_owned(),
    }
}
