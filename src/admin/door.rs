//! The door by which a fuzzer speaks to the admin server: the bytes of a connection, without a socket.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Runtime;

use super::desk::Desk;
use super::game::AdminGame;
use super::guard::{AdminKey, Guard};
use super::readers::Readers;
use super::server::{HEADER_BYTES_MAX, HEADERS_MAX, router};
use crate::host::HostHandle;
use crate::room::Blueprint;
use crate::store::Store;

/// A connection whose other end has said all that it will say.
struct Said {
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
}

impl Read for Said {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this.input.get(this.at..).unwrap_or_default();
        let part = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
        buffer.put_slice(part);
        this.at += part.len();
        Poll::Ready(Ok(()))
    }
}

impl Write for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
        built.unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Says bytes to an admin server beside a host that has stopped and a store that is there. Gives what it answered.
pub(crate) fn converse(blueprint: &Blueprint, store: Box<dyn Store>, has_key: bool, said: &[u8]) -> Vec<u8> {
    let game = AdminGame { kinds: vec!["health".to_owned()], ..AdminGame::new("doors", blueprint.clone()) };
    let desk = Arc::new(Desk {
        readers: Readers::new(game.clone(), Some(store), 1),
        game,
        handle: HostHandle::to_nobody(),
        guard: Guard {
            key: AdminKey::parse("0123456789abcdef").ok().filter(|_| has_key),
            token_key: None,
            patience: Duration::from_secs(5),
        },
        refusals: Arc::default(),
        requests: AtomicU64::new(0),
        set_log: Some(Arc::new(|filter: &str| crate::host::check_filter(filter).map_err(|error| error.to_string()))),
        tokens: None,
        started: Duration::ZERO,
    });
    let mut end = Said { input: said.to_vec(), at: 0, output: Vec::new() };
    runtime().block_on(async {
        let mut http = http1::Builder::new();
        // The other end has said all, and still listens.
        http.timer(TokioTimer::new()).max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX).half_close(true);
        let served = pin!(http.serve_connection(&mut end, TowerToHyperService::new(router(desk))));
        let _ = served.await;
    });
    end.output
}
