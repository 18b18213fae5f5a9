//! A NATS server with JetStream of a test's own, that can be killed, stopped and started again on what it kept.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::binary::PATIENCE;
#[cfg(unix)]
use super::certificate;
use super::installed::if_there;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, Context};
use roomkeeper::store::nats::{NatsOptions, ToldFact, subject_of};

fn program() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut places = on_path.into_iter().chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/bin")]);
    places.find_map(|place| Some(place.join("nats-server")).filter(|program| program.is_file()))
}

/// A server. Dropping it ends it and deletes what it kept.
pub struct Server {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Its certificate, if it encrypts.
    certificate: Option<PathBuf>,
    process: Option<Child>,
}

impl Server {
    /// A server that does not run yet; nothing if the machine has none.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = if_there(program(), "nats-server", "nats-server")?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("roomkeeper-nats-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self { program, folder, port, certificate: None, process: None })
    }

    pub fn start() -> Option<Self> {
        let mut server = Self::new()?;
        server.run();
        Some(server)
    }

    /// Starts the process and waits until JetStream answers.
    pub fn run(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"]).arg(self.folder.join("data"));
        if let Some(certificate) = &self.certificate {
            command.arg("--tls").arg("--tlscert").arg(certificate).arg("--tlskey").arg(self.key());
        }
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        self.ask(async |_| ());
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// Lets it encrypt from its next start on, by a certificate of its own, which is returned. Nothing if the machine can't make one.
    #[cfg(unix)]
    pub fn encrypt(&mut self) -> Option<PathBuf> {
        let certificate = self.folder.join("certificate.pem");
        self.certificate = certificate::make(&self.folder, &self.key(), certificate, None);
        self.certificate.clone()
    }

    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "tls" } else { "nats" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub fn options(&self) -> NatsOptions {
        NatsOptions::at(self.url())
    }

    fn signal(&self, signal: &str) {
        let Some(process) = &self.process else { return };
        assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
    }

    /// Ends it at once, by SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Lets it stand still: it answers nothing, and its connections stay.
    pub fn stall(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Does something with JetStream.
    pub fn ask<T>(&self, work: impl AsyncFnOnce(Context) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let began = Instant::now();
            let client = loop {
                let mut options = async_nats::ConnectOptions::new();
                if let Some(certificate) = &self.certificate {
                    options = options.require_tls(true).add_root_certificates(certificate.clone());
                }
                match options.connect(self.url()).await {
                    Ok(client) => break client,
                    Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            let jetstream = jetstream::new(client);
            // JetStream answers, if only that there is no such stream.
            let answers = async || match jetstream.get_stream("none").await {
                Err(error) => matches!(error.kind(), GetStreamErrorKind::JetStream(_)),
                Ok(_) => true,
            };
            while !answers().await {
                assert!(began.elapsed() < PATIENCE);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            work(jetstream).await
        })
    }

    /// Makes the stream, with a window for doubles that is over soon.
    pub fn make_stream(&self, window: Duration) {
        let subjects = vec!["roomkeeper.facts.>".to_owned()];
        let config = Config { name: "ROOMKEEPER".to_owned(), subjects, duplicate_window: window, ..Config::default() };
        self.ask(async |jetstream| drop(jetstream.create_stream(config).await.unwrap()));
    }

    /// All messages of the stream, in order: subject, id, fact.
    pub fn messages(&self) -> Vec<(String, String, ToldFact)> {
        self.ask(async |jetstream| {
            let stream = jetstream.get_stream("ROOMKEEPER").await.unwrap();
            let state = stream.cached_info().state.clone();
            let mut all = Vec::new();
            for sequence in state.first_sequence.max(1)..=state.last_sequence {
                let message = stream.get_raw_message(sequence).await.unwrap();
                let id = message.headers.get("Nats-Msg-Id").unwrap().as_str().to_owned();
                all.push((message.subject.to_string(), id, ToldFact::read(&message.payload).unwrap()));
            }
            all
        })
    }

    /// The last fact of a room in the stream, if there is one, and a stream.
    pub fn last(&self, room: &str) -> Option<u64> {
        let subject = subject_of("roomkeeper.facts", room, "");
        self.ask(async |jetstream| {
            let stream = jetstream.get_stream("ROOMKEEPER").await.ok()?;
            let message = stream.get_last_raw_message_by_subject(&format!("{}*", subject.trim_end_matches('%'))).await.ok()?;
            Some(ToldFact::read(&message.payload).unwrap().seq)
        })
    }

    /// Does something with the stream.
    pub fn with_stream<T>(&self, work: impl AsyncFnOnce(Context, Stream) -> T) -> T {
        self.ask(async |jetstream| {
            let stream = jetstream.get_stream("ROOMKEEPER").await.unwrap();
            work(jetstream, stream).await
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("what the server said last:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
