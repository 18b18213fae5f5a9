//! The server: a thread of its own, connections with bounds, and the table of what is answered.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::answer::Failure;
use super::desk::Desk;
use super::game::AdminGame;
use super::guard::{AdminKey, Guard, Refusals, Refused, TOKENS, guard};
use super::readers::Readers;
use super::tokens::{self, Tokens};
use super::{ledger, live, metrics, orders, page};
use crate::client::unix_time;
use crate::host::HostHandle;
use crate::store::Store;

/// Changes what is logged; what it was told is no filter if it says so.
pub type SetLog = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// How long a connection may last. Whoever still wants something comes again.
const CONNECTION_MAX: Duration = Duration::from_secs(120);

/// Most headers of a request, and most bytes of them.
pub(super) const HEADERS_MAX: usize = 64;
pub(super) const HEADER_BYTES_MAX: usize = 16 * 1_024;

/// How many threads wait for the host, besides those that read the store: however long those take, the host can be asked.
const HOST_THREADS_MAX: usize = 8;

/// How an admin server works.
#[derive(Clone)]
#[non_exhaustive]
pub struct AdminOptions {
    /// Where it listens.
    pub bind: SocketAddr,
    /// What every request but `/health` and `/ready` must name. Without one it listens on loopback only, and answers to this machine's own names.
    pub key: Option<AdminKey>,
    /// Most connections at a time. More are closed at once. Default: 64. Counter: `connections`.
    pub connections_max: usize,
    /// Most requests that read the store at a time. More wait. Default: 2.
    pub readers_max: usize,
    /// How long the headers of a request, and its body, may take each. What is slower is closed. Default: 10 s. Counter: `slow`.
    pub slow_after: Duration,
    /// What changes the log's filter. Without it that can't be done.
    pub set_log: Option<SetLog>,
    /// What makes connect tokens, for `POST /tokens`. Without it none are made there.
    pub tokens: Option<Tokens>,
    /// A key for the game's back end: it lets in to `POST /tokens`, and to nothing else.
    pub token_key: Option<AdminKey>,
}

impl std::fmt::Debug for AdminOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminOptions").field("bind", &self.bind).field("key", &self.key).finish_non_exhaustive()
    }
}

impl AdminOptions {
    /// Listens there, without a key.
    pub fn at(bind: SocketAddr) -> Self {
        Self {
            bind,
            key: None,
            connections_max: 64,
            readers_max: 2,
            slow_after: Duration::from_secs(10),
            set_log: None,
            tokens: None,
            token_key: None,
        }
    }
}

/// Why an admin server could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Others could reach it, and nothing would keep them out.
    #[error("{0} can be reached from other machines: an admin server there needs a key")]
    Open(SocketAddr),
    /// It can't listen.
    #[error("the admin server can't listen on {address}: {error}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The system gives no thread.
    #[error("the admin server can't be started: {0}")]
    Thread(std::io::Error),
}

/// An admin server that runs. It ends when it is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Starts one. `store` reads what the host keeps; without it only the present can be seen.
    ///
    /// # Errors
    /// If it can't listen; if it would listen to other machines without a key.
    pub fn start(options: AdminOptions, game: AdminGame, handle: HostHandle, store: Option<Box<dyn Store>>) -> Result<Self, AdminError> {
        if options.key.is_none() && !options.bind.ip().is_loopback() {
            return Err(AdminError::Open(options.bind));
        }
        let failed = |error| AdminError::Socket { address: options.bind, error };
        let listener = std::net::TcpListener::bind(options.bind).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(HOST_THREADS_MAX.saturating_add(options.readers_max.max(1)))
            .thread_name("admin-waits")
            .build()
            .map_err(AdminError::Thread)?;
        let refusals = Arc::new(Refusals::default());
        let desk = Arc::new(Desk {
            readers: Readers::new(game.clone(), store, options.readers_max),
            game,
            handle,
            guard: Guard { key: options.key.clone(), token_key: options.token_key.clone(), patience: options.slow_after },
            refusals: refusals.clone(),
            requests: AtomicU64::new(0),
            set_log: options.set_log.clone(),
            tokens: options.tokens.clone(),
            started: unix_time(),
        });
        let doors = Arc::new(Doors { router: router(desk), refusals, slow_after: options.slow_after });
        let (stop, stops) = oneshot::channel::<()>();
        let turns = Arc::new(Semaphore::new(options.connections_max.max(1)));
        let run = move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::spawn(accept(listener, turns, doors));
                // Dropping the sender is as good as a word.
                let _ = stops.await;
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(run).map_err(AdminError::Thread)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What each connection needs.
struct Doors {
    router: Router,
    refusals: Arc<Refusals>,
    slow_after: Duration,
}

async fn accept(listener: TcpListener, turns: Arc<Semaphore>, doors: Arc<Doors>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // As when there are no more files to be had: that passes.
                tracing::debug!(%error, "a connection can't be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(turn) = turns.clone().try_acquire_owned() else {
            doors.refusals.note(Refused::Connections);
            continue;
        };
        let doors = doors.clone();
        tokio::spawn(async move {
            doors.serve(stream).await;
            drop(turn);
        });
    }
}

impl Doors {
    async fn serve(&self, stream: TcpStream) {
        // Answers are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let asked = Arc::new(AtomicBool::new(false));
        let notes = asked.clone();
        let router = self.router.clone().layer(axum::middleware::map_request(move |request: Request<Body>| {
            notes.store(true, Ordering::Relaxed);
            std::future::ready(request)
        }));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.slow_after)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        let mut connection = pin!(connection);
        let served = match tokio::time::timeout(CONNECTION_MAX, connection.as_mut()).await {
            Ok(served) => served,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                let last = tokio::time::timeout(self.slow_after, connection).await;
                last.unwrap_or(Ok(()))
            }
        };
        let Err(error) = served else { return };
        // One that was kept for the next request and rests too long has done nothing wrong.
        if error.is_timeout() && !asked.load(Ordering::Relaxed) {
            self.refusals.note(Refused::Slow);
        } else if error.is_parse() {
            self.refusals.note(Refused::Malformed);
        }
    }
}

pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/health", get(live::health))
        .route("/ready", get(live::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/host", get(live::host))
        .route("/rooms", get(live::rooms).post(orders::open))
        .route("/rooms/{room}", get(live::room).delete(orders::close))
        .route("/rooms/{room}/ledger", delete(orders::delete))
        .route("/rooms/{room}/members", get(live::members))
        .route("/rooms/{room}/kick", post(orders::kick))
        .route("/rooms/{room}/pause", post(orders::pause))
        .route("/rooms/{room}/speed", post(orders::speed))
        .route("/rooms/{room}/step", post(orders::step))
        .route("/rooms/{room}/reset", post(orders::reset))
        .route("/rooms/{room}/snippet", post(orders::snippet))
        .route("/rooms/{room}/revert", post(orders::revert))
        .route("/rooms/{room}/event", post(orders::event))
        .route("/rooms/{room}/snippets", get(ledger::snippets))
        .route("/rooms/{room}/ticks", get(ledger::ticks))
        .route("/rooms/{room}/state", get(ledger::state))
        .route("/rooms/{room}/bytes", get(ledger::bytes))
        .route("/rooms/{room}/picture", get(ledger::picture))
        .route("/rooms/{room}/diff", get(ledger::diff))
        .route("/rooms/{room}/facts", get(ledger::facts))
        .route("/rooms/{room}/history", get(ledger::history))
        .route("/rooms/{room}/why", get(ledger::why))
        .route("/bans", get(orders::bans).post(orders::ban))
        .route("/bans/{player}", delete(orders::unban))
        .route(TOKENS, post(tokens::issue))
        .route("/log", put(orders::log))
        .route("/drain", post(orders::drain))
        .route("/", get(page::index))
        .route("/inspector/{file}", get(page::file))
        .fallback(unknown)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(desk.clone(), guard))
        .with_state(desk)
}

async fn unknown(uri: Uri) -> Failure {
    Failure::missing(format!("there is nothing at {}", uri.path()))
}

async fn not_so(method: Method, uri: Uri) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method", format!("{} does not take {method}", uri.path()))
}
