//! A PostgreSQL server of a test's own, in a temporary folder, that can be killed, stopped and started again.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use roomkeeper::store::PostgresOptions;

use crate::certificate;
use crate::installed::if_there;

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort();
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut places = versions.into_iter().rev().map(|version| version.join("bin")).chain(on_path);
    places.find(|place| place.join("postgres").is_file() && place.join("initdb").is_file())
}

/// The user that the server runs as: PostgreSQL refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let root = Command::new("id").arg("-u").output().ok()?.stdout == b"0\n";
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    root.then(|| id("postgres").or_else(|| id("nobody"))).flatten()
}

/// A server. Dropping it ends it and deletes what it kept.
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// Starts a server; nothing if the machine has none to start. Where all tests have to run (`CI` or `ROOMKEEPER_CI` is set), that fails.
    pub fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let programs = if_there(programs(), "PostgreSQL", "postgresql")?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not in the target folder: the path of a socket may not be long, and the server's user has to get there.
        let folder = PathBuf::from(format!("/tmp/roomkeeper-postgres-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).unwrap();
        }
        let mut server = Self { programs, folder, port: 0, process: None };
        let data = server.folder.join("data");
        let made = server
            .program("initdb")
            .args(["--auth=trust", "--username=rooms", "--encoding=UTF8", "--locale=C", "--no-sync", "--data-checksums", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        server.run();
        Some(server)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.folder);
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the process and waits until it answers.
    pub fn run(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let process = self
            .program("postgres")
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-k".as_ref(), self.folder.as_os_str()])
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"])
            .args(["-c", "shared_buffers=64MB", "-c", "max_prepared_transactions=0", "-c", "logging_collector=off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
        let began = Instant::now();
        while !self.program("psql").args(self.psql("postgres")).args(["-c", "SELECT 1"]).output().unwrap().status.success() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", self.log());
            // What was killed may have left memory that is in use for a moment longer.
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                std::thread::sleep(Duration::from_millis(200));
                self.process = None;
                return self.run();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn psql(&self, database: &str) -> [String; 9] {
        let folder = self.folder.display().to_string();
        ["-X", "-At", "-h", &folder, "-p", &self.port.to_string(), "-U", "rooms", database].map(str::to_owned)
    }

    /// What SQL gives, as text: a row a line, its columns with `|` between them.
    pub fn sql(&self, options: &PostgresOptions, sql: &str) -> String {
        self.sql_in("postgres", &options.schema, sql)
    }

    /// The same in another database.
    pub fn sql_in(&self, database: &str, schema: &str, sql: &str) -> String {
        let path = format!("SET client_min_messages = warning; SET search_path TO \"{schema}\"");
        let output = self.program("psql").args(self.psql(database)).args(["-v", "ON_ERROR_STOP=1", "-q", "-c", &path, "-c", sql]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Lets it encrypt: with a certificate of its own for this address, by which it can be known, and which is returned. Nothing if the machine
    /// can't make one.
    pub fn encrypt(&self) -> Option<PathBuf> {
        let (key, certificate) = (self.folder.join("data/server.key"), self.folder.join("data/server.crt"));
        let certificate = certificate::make(&self.folder, &key, certificate, unprivileged())?;
        // Whoever comes by TCP has to encrypt; the socket stays as it is, for these tests' own questions.
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(self.folder.join("data/pg_hba.conf"), rules).unwrap();
        for sql in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
            self.sql(&self.options("roomkeeper"), sql);
        }
        Some(certificate)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A store of a test's own, over TCP.
    pub fn options(&self, schema: &str) -> PostgresOptions {
        options_at(self.port, schema)
    }

    /// The same, over the server's socket.
    pub fn options_by_socket(&self, schema: &str) -> PostgresOptions {
        let mut options = self.options(schema);
        options.address = format!("host={} port={} user=rooms dbname=postgres", self.folder.display(), self.port);
        options
    }

    /// The server's processes, the first of all first.
    fn processes(&self) -> Vec<String> {
        let Some(process) = &self.process else { return Vec::new() };
        let first = process.id().to_string();
        let children = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name, which stands in parentheses: the state, then the parent.
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned();
            (parent == first).then(|| entry.file_name().to_string_lossy().into_owned())
        });
        std::iter::once(first.clone()).chain(children).collect()
    }

    fn signal(&self, signal: &str) {
        let _ = Command::new("kill").arg(signal).args(self.processes()).stderr(Stdio::null()).status();
    }

    /// Ends all of its processes at once, by SIGKILL.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        if let Some(mut process) = self.process.take() {
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
}

/// A store of a test's own, at a port of this machine.
pub fn options_at(port: u16, schema: &str) -> PostgresOptions {
    let mut options = PostgresOptions::at(format!("postgres://rooms@127.0.0.1:{port}/postgres?application_name={schema}"));
    options.schema = schema.to_owned();
    options
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("-CONT");
        self.kill();
        if std::thread::panicking() {
            eprintln!("what the server said last:\n{}", last_lines(&self.folder));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn last_lines(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.iter().rev().take(30).rev().copied().collect::<Vec<_>>().join("\n")
}

/// A server that tests share while they run at the same time; each takes a schema of its own.
pub fn shared() -> Option<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(Server::start()?);
    *shared = Arc::downgrade(&server);
    Some(server)
}
