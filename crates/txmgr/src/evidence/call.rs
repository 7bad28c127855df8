//! Decodes calldata of the few functions that most tokens have.
//!
//! Read next: [`super`].

use crate::tx::Intent;
use crate::units::{Address, U256, keccak256};
use crate::wire::evidence::{CallKind, EvidenceArgument, EvidenceCall};

/// Functions of ERC-20, ERC-721 and wrapped coins. Every argument is one word.
const KNOWN: [&str; 8] = [
    "transfer(address,uint256)",
    "transferFrom(address,address,uint256)",
    "approve(address,uint256)",
    "increaseAllowance(address,uint256)",
    "setApprovalForAll(address,bool)",
    "safeTransferFrom(address,address,uint256)",
    "deposit()",
    "withdraw(uint256)",
];

/// Size of an ABI word in bytes.
const WORD: usize = 32;

/// The decoded call of a transaction.
pub(super) fn of(intent: &Intent) -> EvidenceCall {
    let plain = |kind| EvidenceCall { kind, selector: None, function: None, arguments: Vec::new() };
    if intent.to.is_none() {
        return plain(CallKind::Creation);
    }
    if intent.data.is_empty() {
        return plain(CallKind::Payment);
    }
    let Some((selector, words)) = intent.data.split_first_chunk::<4>() else { return plain(CallKind::Call) };
    let function = KNOWN.into_iter().find(|known| keccak256(known.as_bytes()).starts_with(selector));
    EvidenceCall {
        kind: CallKind::Call,
        selector: Some(format!("0x{}", hex::encode(selector))),
        function: function.map(str::to_owned),
        arguments: function.and_then(|function| arguments(function, words)).unwrap_or_default(),
    }
}

/// The arguments, if the number of words matches the function.
fn arguments(function: &str, words: &[u8]) -> Option<Vec<EvidenceArgument>> {
    let kinds = function.split_once('(')?.1.strip_suffix(')')?;
    let kinds: Vec<&str> = kinds.split(',').filter(|kind| !kind.is_empty()).collect();
    let (words, rest) = words.as_chunks::<WORD>();
    if words.len() != kinds.len() || !rest.is_empty() {
        return None;
    }
    kinds.into_iter().zip(words).map(|(kind, word)| argument(kind, word)).collect()
}

fn argument(kind: &str, word: &[u8; WORD]) -> Option<EvidenceArgument> {
    let number = U256::from_big_endian(word);
    let value = match kind {
        "address" => {
            let (padding, address) = word.split_last_chunk::<20>()?;
            padding.iter().all(|byte| *byte == 0).then(|| Address(*address).to_string())?
        }
        "bool" if number <= U256::one() => (number == U256::one()).to_string(),
        "uint256" => number.to_string(),
        _ => return None,
    };
    Some(EvidenceArgument { kind: kind.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::units::{ChainId, Gas, Wei};

    fn described(to: Option<Address>, data: &str) -> String {
        let data = Arc::from(hex::decode(data).unwrap());
        let call = of(&Intent { chain_id: ChainId(97), to, value: Wei::ZERO, data, gas: Gas(1) });
        let arguments: Vec<String> = call.arguments.iter().map(|it| format!("{} {}", it.kind, it.value)).collect();
        format!("{:?} {:?} {:?} {}", call.kind, call.selector, call.function, arguments.join(", "))
    }

    #[test]
    fn known_calls_are_decoded_and_others_are_not() {
        let to = Some(Address([0xaa; 20]));
        let (address, one) = (format!("{}{}", "00".repeat(12), "11".repeat(20)), format!("{}01", "00".repeat(31)));
        for (to, data, expected) in [
            (to, String::new(), "Payment None None "),
            (None, "6000".to_owned(), "Creation None None "),
            (to, "a9059c".to_owned(), "Call None None "),
            (to, "deadbeef".to_owned(), "Call Some(\"0xdeadbeef\") None "),
            (
                to,
                format!("a9059cbb{address}{one}"),
                "Call Some(\"0xa9059cbb\") Some(\"transfer(address,uint256)\") address 0x1111111111111111111111111111111111111111, uint256 1",
            ),
            (
                to,
                format!("a22cb465{address}{one}"),
                "Call Some(\"0xa22cb465\") Some(\"setApprovalForAll(address,bool)\") address 0x1111111111111111111111111111111111111111, bool true",
            ),
            (to, "d0e30db0".to_owned(), "Call Some(\"0xd0e30db0\") Some(\"deposit()\") "),
            // A missing word, an extra byte, an invalid address: the selector may match by chance.
            (to, format!("a9059cbb{address}"), "Call Some(\"0xa9059cbb\") Some(\"transfer(address,uint256)\") "),
            (to, format!("a9059cbb{address}{one}00"), "Call Some(\"0xa9059cbb\") Some(\"transfer(address,uint256)\") "),
            (
                to,
                format!("a9059cbb01{}{one}", &address[2..]),
                "Call Some(\"0xa9059cbb\") Some(\"transfer(address,uint256)\") ",
            ),
        ] {
            assert_eq!(described(to, &data), expected, "{data}");
        }
    }
}
