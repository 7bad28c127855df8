//! `signpost evidence`: writes a file with the evidence of a request's outcome, and verifies such a file.
//!
//! The file is made from the record and a node's data about the deciding transaction. Anyone who has the file can
//! verify it, without AWS and without a node. Read next: `signpost_txmgr::evidence`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use signpost_signer::guard;
use signpost_txmgr::evidence::{Beside, Check, Finding, UNPROVEN, of, verify};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::Record;
use signpost_txmgr::text;
use signpost_txmgr::wire::evidence::{Evidence, SealCheck};

use super::registered::of_our_chain;
use super::stored::stored_record;
use super::{CommandError, ConfigOption, Session, error_chain, request_id};
use crate::config::SealFrom;
use crate::terminal::{Colour, paint, remark, say, say_json};
use crate::{clock, ports};

const EXAMPLES: &str = "\
Examples:
  signpost evidence invoice-4711
  signpost evidence invoice-4711 --out - | jq .outcome
  signpost evidence --verify invoice-4711.evidence.json

The file (evidence.v1) has the accepted request, its call, the digest of the policy, every attempt with its signature,
its bytes and the KMS request id, the outcome, and from a node the receipt and the block header.
It has the full calldata and the caller's metadata: share it only with people who may see those.

--verify needs neither configuration nor network. Exit code 0: all checks passed; 1: a check failed; 2: the file is
missing or not evidence. Below the checks, the output lists what a file cannot prove.";

/// The size limit of a file to verify: 80 attempts of 128 KiB in hex are 20 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// `signpost evidence`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Id of the request
    #[arg(value_name = "ID", required_unless_present = "verify")]
    id: Option<String>,
    /// Output file; `-` is standard output [default: ID.evidence.json]
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    out: Option<PathBuf>,
    /// Verify a file instead; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    verify: Option<PathBuf>,
    /// With --verify: file with seal keys, one per line, to check the seal too
    #[arg(long, value_name = "FILE", requires = "verify")]
    seal_key: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    match (&arguments.verify, &arguments.id) {
        (Some(file), _) => check(file, arguments.seal_key.as_deref()),
        (None, Some(id)) => write(id, arguments.out.as_deref(), &arguments.config).await,
        (None, None) => Err(CommandError::Input("give a request's id, or --verify FILE".to_owned())),
    }
}

async fn write(id: &str, out: Option<&Path>, config: &ConfigOption) -> Result<ExitCode, CommandError> {
    let id = request_id(id)?;
    let session = config.open().await?;
    let record = stored_record(&ports::store(&session), &id).await?;
    of_our_chain(&session, &record.account)?;
    let evidence = of(&record, beside(&session, &record).await?);
    if out.is_some_and(|path| path.as_os_str() == "-") {
        say_json(&evidence);
        return Ok(ExitCode::SUCCESS);
    }
    let path = out.map_or_else(|| PathBuf::from(format!("{id}.evidence.json")), Path::to_path_buf);
    let json = text::json(&evidence).map_err(|error| CommandError::Input(format!("cannot write it: {error}")))?;
    std::fs::write(&path, format!("{json}\n")).map_err(|source| CommandError::File { path: path.clone(), source })?;
    remark(format!("written to {}; check it with: signpost evidence --verify {}", path.display(), path.display()));
    Ok(ExitCode::SUCCESS)
}

/// The parts that the record does not have. If no node answers, the file has no receipt and says so.
async fn beside(session: &Session, record: &Record) -> Result<Beside, CommandError> {
    let head = ports::store(session).head(&record.account).await?;
    let nodes = ports::chain(session)?;
    let settlement = record.phase.settlement();
    let mined = record.phase.receipt().map(|receipt| (receipt.tx_hash, receipt.block));
    let decided = settlement.map(|it| (it.verdict.tx_hash(), it.verdict.block())).or(mined);
    let (mut receipt, mut header) = (None, None);
    if let Some((tx_hash, block)) = decided {
        receipt = nodes.raw_receipt(tx_hash).await.unwrap_or_else(|error| {
            remark(format!("the receipt of {tx_hash} is left out: {}", error_chain(&error)));
            None
        });
        header = nodes.raw_header(block.hash).await.unwrap_or_else(|error| {
            remark(format!("the header of block {} is left out: {}", block.number, error_chain(&error)));
            None
        });
    }
    Ok(Beside {
        seal_check: seal_check(session, record)?,
        kms_key_id: head.map(|head| head.kms_key_id),
        receipt,
        header,
        now: clock::now(),
    })
}

/// Checks the seal if the seal key is in a file. A key in Secrets Manager is for the signer only.
fn seal_check(session: &Session, record: &Record) -> Result<SealCheck, CommandError> {
    let Some(SealFrom::File(file)) = &session.config.seal else { return Ok(SealCheck::NotChecked) };
    let sealer = guard::sealer_of(file).map_err(CommandError::Start)?;
    Ok(match sealer.check(record, &record.name) {
        Ok(()) => SealCheck::Fits,
        Err(_) => SealCheck::DoesNotFit,
    })
}

fn check(path: &Path, seal_key: Option<&Path>) -> Result<ExitCode, CommandError> {
    let evidence = read(path)?;
    let sealer = seal_key.map(guard::sealer_of).transpose().map_err(CommandError::Start)?;
    let checks = verify(&evidence, sealer.as_ref());
    for check in &checks {
        say(line(check));
    }
    say("");
    say("A file cannot prove:");
    for what in UNPROVEN {
        say(format!("  {what}"));
    }
    let failed = checks.iter().filter(|check| matches!(check.finding, Finding::Fails(_))).count();
    let id = &evidence.request.request_id;
    say("");
    say(if failed == 0 {
        format!("{id}: the file is consistent")
    } else {
        format!("{id}: {failed} check(s) FAILED; the file is not valid evidence")
    });
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(check: &Check) -> String {
    let (mark, colour, text) = match &check.finding {
        Finding::Fits(text) => ("ok", Colour::Green, text),
        Finding::Fails(text) => ("FAILED", Colour::Red, text),
        Finding::NotChecked(text) => ("not checked", Colour::Yellow, text),
    };
    format!("{} {}: {}", paint(colour, &format!("{mark:<11}")), check.name, text::plain(text))
}

fn read(path: &Path) -> Result<Evidence, CommandError> {
    let wrong = |problem: String| CommandError::Input(format!("{}: {problem}", path.display()));
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("is not valid evidence.v1: {error}")))
}
