//! Where facts go, and by which names.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

use super::super::subjects::{PREFIX, STREAM, is_prefix, is_stream};
use super::failure::NatsError;
use super::subject::name_of;

/// How long connecting may take, and each answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Where facts go.
#[derive(Clone)]
#[non_exhaustive]
pub struct NatsOptions {
    /// The servers' address: `nats://host:4222`, or `tls://`; several of one cluster with commas between them. It may have a user and a password before the
    /// host, or a token: `nats://token@host`.
    pub url: String,
    /// The stream. It is made if it is not there, and left as it is if it is. Default: `ROOMKEEPER`.
    pub stream: String,
    /// With what subjects begin. Default: `roomkeeper.facts`.
    pub prefix: String,
    /// A file with credentials, as `nsc generate creds` makes it.
    pub credentials: Option<PathBuf>,
    /// For how long a publisher that is stopped goes on, where facts wait and the server takes them. Default: 3 s.
    pub last_words: Duration,
}

impl std::fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may have a password in it.
        f.debug_struct("NatsOptions").field("stream", &self.stream).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl NatsOptions {
    /// At an address, by the usual names.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            stream: STREAM.to_owned(),
            prefix: PREFIX.to_owned(),
            credentials: None,
            last_words: Duration::from_secs(3),
        }
    }

    /// Checks what can be checked without a server.
    pub(super) fn check(&self) -> Result<Target, NatsError> {
        let name = |what, name: &str, wanted| NatsError::Name { what, name: name.to_owned(), wanted };
        if !is_stream(&self.stream) {
            return Err(name("the stream", &self.stream, "a name of letters, digits, - and _"));
        }
        if !is_prefix(&self.prefix) {
            return Err(name("the prefix", &self.prefix, "tokens with dots between them, without wildcards and spaces,"));
        }
        let mut servers = Vec::new();
        for part in self.url.split(',') {
            // What is wrong is told without the address, which may have a password in it.
            let server = part.trim().parse::<ServerAddr>().map_err(|error| NatsError::Address { detail: error.to_string() })?;
            if !matches!(server.scheme(), "nats" | "tls") || server.host().is_empty() {
                return Err(NatsError::Address { detail: "this is no address of a NATS server".to_owned() });
            }
            servers.push(server);
        }
        let shown: Vec<String> = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        let target = Target { servers, shown: shown.join(", "), options: self.clone() };
        target.connect_options().map(|_| target)
    }

    /// Under which name the store keeps how far the stream has come.
    pub(crate) fn position_name(&self) -> String {
        format!("nats {} {}", self.stream, self.prefix)
    }
}

/// Options that were checked.
pub(super) struct Target {
    pub(super) servers: Vec<ServerAddr>,
    /// The servers, as they may be logged.
    pub(super) shown: String,
    pub(super) options: NatsOptions,
}

impl Target {
    pub(super) fn connect_options(&self) -> Result<ConnectOptions, NatsError> {
        let mut options = ConnectOptions::new().name("roomkeeper").connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
        // A link that is dead without a word is noticed within a quarter of a minute.
        options = options.ping_interval(Duration::from_secs(5));
        // The client takes no names from addresses by itself.
        let plain = |text: &str| name_of(text).unwrap_or_else(|| text.to_owned());
        if let Some((user, password)) = self.servers.iter().find_map(|server| Some((server.username()?, server.password()))) {
            options = match password {
                Some(password) => options.user_and_password(plain(user), plain(password)),
                None => options.token(plain(user)),
            };
        }
        if let Some(path) = &self.options.credentials {
            // Read for each connection: they are exchanged while a server runs.
            let bad = |detail: String| NatsError::Credentials { place: path.display().to_string(), detail };
            let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
            options = options.credentials(&text).map_err(|error| bad(error.to_string()))?;
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_without_a_server_and_without_a_password() {
        let wrong = |change: fn(&mut NatsOptions)| {
            let mut options = NatsOptions::at("nats://ann:secret@localhost, tls://[::1]:4333");
            change(&mut options);
            options.check().map(|target| target.shown).unwrap_or_else(|error| error.to_string())
        };
        assert_eq!(wrong(|_| ()), "localhost:4222, ::1:4333");
        for (change, wanted) in [
            ((|options| options.url = "http://ann:secret@localhost".to_owned()) as fn(&mut NatsOptions), "nats://host:4222"),
            (|options| options.url = "nats://ann:secret@host:port".to_owned(), "nats://host:4222"),
            (|options| options.url = String::new(), "nats://host:4222"),
            (|options| options.url = "wss://ann:secret@localhost".to_owned(), "nats://host:4222"),
            (|options| options.stream = "A.B".to_owned(), "the stream \"A.B\": a name of letters, digits, - and _ is wanted"),
            (|options| options.prefix = "facts.>".to_owned(), "the prefix \"facts.>\""),
            (|options| options.credentials = Some("/nowhere/creds".into()), "the credentials in /nowhere/creds: No such file"),
            (|options| options.credentials = Some("/dev/null".into()), "the credentials in /dev/null: "),
        ] {
            let said = wrong(change);
            assert!(said.contains(wanted) && !said.contains("secret"), "{said}");
        }
        let shown = format!("{:?}", NatsOptions::at("nats://ann:secret@localhost"));
        assert!(!shown.contains("secret"), "{shown}");
        assert!(NatsOptions::at("nats://s3cr%3At@localhost").check().unwrap().connect_options().is_ok());
    }
}
