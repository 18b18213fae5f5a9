//! The keys of a host, and `token`, which makes tokens by them.

use std::io::Write;
use std::path::Path;

use super::options::{CliError, TokenOptions};
use super::output::say;
use crate::client::unix_time;
use crate::host::gateway::KEYS_MAX;
use crate::host::{HostKey, TokenIssuer};
use crate::protocol::EntityId;

fn bad_key(path: &Path) -> CliError {
    let detail = format!("it does not hold 64 hexadecimal digits in each line, in 1 to {KEYS_MAX} lines");
    CliError::Argument { what: format!("the key file {}", path.display()), detail }
}

fn key_file(path: &Path, error: std::io::Error) -> CliError {
    CliError::Io { what: format!("the key file {}", path.display()), error }
}

/// Reads keys, one a line, of which the first makes tokens and all let in.
pub(super) fn read_keys(path: &Path) -> Result<Vec<HostKey>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| key_file(path, error))?;
    let keys: Option<Vec<HostKey>> = text.lines().filter(|line| !line.trim().is_empty()).map(parse_key).collect();
    keys.filter(|keys| (1..=KEYS_MAX).contains(&keys.len())).ok_or_else(|| bad_key(path))
}

/// The same; or makes one if there is no such file. Only a server that starts does so: what it makes is then what counts.
pub(super) fn read_or_make_keys(path: &Path) -> Result<Vec<HostKey>, CliError> {
    match read_keys(path) {
        Err(CliError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(vec![make_key(path)?]),
        read => read,
    }
}

/// Makes a key that only its owner can read; so on Unix. Elsewhere whoever may read what is in the folder can read it.
pub(super) fn make_key(path: &Path) -> Result<HostKey, CliError> {
    let key = HostKey::random()?;
    let text: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    owner_only().create_new(true).open(path).and_then(|mut file| writeln!(file, "{text}")).map_err(|error| key_file(path, error))?;
    Ok(key)
}

fn parse_key(text: &str) -> Option<HostKey> {
    let text = text.trim();
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.last()?)).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64).map(HostKey)
}

pub(super) fn token(options: &TokenOptions) -> Result<(), CliError> {
    // A key that is made here no server would know.
    let key = read_keys(&options.key)?.first().copied().ok_or_else(|| bad_key(&options.key))?;
    let issuer = TokenIssuer { key, addresses: vec![options.server], expire_seconds: options.expires };
    let token = issuer.issue(EntityId::named(&options.player), &options.player, options.room.as_deref(), unix_time())?;
    let what = format!("the token file {}", options.out.display());
    write_secret(&options.out, &token).map_err(|error| CliError::Io { what, error })?;
    say(&format!("a token for {} is in {}; it lets in once, within {} s", options.player, options.out.display(), options.expires));
    Ok(())
}

/// How a file is made that only its owner can read; so on Unix. Elsewhere the rights of its folder count.
fn owner_only() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file that only its owner can read (see [`owner_only`]), also where another one was.
fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = owner_only().create(true).truncate(true).open(path)?;
    // The mode counts for a file that is made, not for one that was there. What is no file, as /dev/stdout, has none of its own.
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    file.write_all(bytes)
}
