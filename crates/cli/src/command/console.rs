//! `signpost console`: a web page for operators, served on this machine. Read-only.

use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::net::TcpListener;

use super::{CommandError, ConfigOption, asked_to_stop};
use crate::console::{Console, Guard};
use crate::terminal::{remark, say};

/// The shortest valid token: 16 random characters cannot be guessed over a network.
const TOKEN_MIN_CHARS: usize = 16;

const EXAMPLES: &str = "\
Examples:
  signpost console
  signpost console --listen 127.0.0.1:0
  SIGNPOST_CONSOLE_TOKEN=$(openssl rand -hex 16) signpost console --host-name ops.example --behind-tls

The page shows accounts, lanes, requests and outcomes, and changes nothing: it needs GetItem, BatchGetItem and Query on
the two tables, and a node. Without a token it listens on this machine only, and every user of the machine can see it.
It uses HTTP: on a shared network put a TLS proxy in front of it and add --behind-tls.
The token opens a session of 8 hours. After ten wrong tokens, no token is accepted for the rest of the minute; each
wrong token is reported on stderr.";

/// `signpost console`
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Address and port to listen on; port 0 selects a free one. A non-loopback address requires a token
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Token that a browser must send, at least 16 characters; prefer the environment variable
    #[arg(long, value_name = "TOKEN", env = "SIGNPOST_CONSOLE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Host name of the page besides localhost and IP addresses; may be repeated
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// A TLS proxy is in front: cookies are sent over TLS only, and refused logins are logged with the address from
    /// X-Forwarded-For. Requires a token
    #[arg(long)]
    behind_tls: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl std::fmt::Debug for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arguments").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let token = arguments.token.filter(|token| !token.is_empty());
    check(arguments.listen, token.as_deref(), arguments.behind_tls).map_err(CommandError::Input)?;
    let session = arguments.config.open().await?;
    let listener = listen(arguments.listen).await?;
    let console = Console::new(&session)?;
    let asked = asked_to_stop()?;
    say(url(&listener)?);
    remark("The console is running; Ctrl-C stops it");
    if !arguments.listen.ip().is_loopback() && !arguments.behind_tls {
        remark("It uses HTTP: others on the network can read token and page. Add a TLS proxy and --behind-tls");
    }
    let guard = Guard::new(token.as_deref(), &arguments.host_name, arguments.behind_tls);
    tokio::select! {
        served = console.serve(listener, guard) => served.map_err(|error| stopped(&error))?,
        () = asked => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Requires a token if users of other machines can reach the page.
fn check(listen: SocketAddr, token: Option<&str>, behind_tls: bool) -> Result<(), String> {
    match token {
        None if behind_tls => {
            Err("--behind-tls lets others reach the page: also give SIGNPOST_CONSOLE_TOKEN (or --token)".to_owned())
        }
        None if !listen.ip().is_loopback() => Err(format!(
            "{listen} can be reached from other machines: give SIGNPOST_CONSOLE_TOKEN (or --token), or use 127.0.0.1"
        )),
        Some(token) if token.chars().count() < TOKEN_MIN_CHARS => Err(format!(
            "the token has fewer than {TOKEN_MIN_CHARS} characters; `openssl rand -hex 16` makes a good one"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Listens on an address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, CommandError> {
    let taken = |error: std::io::Error| CommandError::Input(format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(taken)
}

/// The URL of the page.
pub fn url(listener: &TcpListener) -> Result<String, CommandError> {
    listener.local_addr().map(|address| format!("http://{address}/")).map_err(|error| stopped(&error))
}

fn stopped(error: &std::io::Error) -> CommandError {
    CommandError::Input(format!("the console can no longer listen: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_needs_no_token() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(check(at("127.0.0.1:7070"), None, false).is_ok());
        assert!(check(at("[::1]:7070"), None, false).is_ok());
        for open in ["0.0.0.0:7070", "192.0.2.1:1", "[::]:1"] {
            assert!(check(at(open), None, false).is_err(), "{open}");
            assert!(check(at(open), Some("0123456789abcdef"), false).is_ok(), "{open}");
        }
        assert!(check(at("127.0.0.1:1"), Some("short"), false).is_err());
        assert!(check(at("127.0.0.1:1"), None, true).is_err(), "a proxy serves other machines");
        assert!(check(at("127.0.0.1:1"), Some("0123456789abcdef"), true).is_ok());
    }
}
