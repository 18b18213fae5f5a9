//! A projection outside the process, as `docs/nats.md` has it: a consumer that keeps the order, and view and positions kept together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures_util::StreamExt;
use roomkeeper::store::nats::{Count, Counted, ToldFact};
use tokio::time::timeout;
use uuid::Uuid;

/// What it has counted.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The last message that was taken, by its number in the stream.
    pub message: u64,
    pub counted: Counted,
    pub facts: BTreeMap<Uuid, Vec<u64>>,
    pub doubles: u64,
    pub missing: u64,
    pub connections: u64,
}

pub struct Outside {
    view: Arc<Mutex<View>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Outside {
    /// Counts what comes, and goes on trying where nothing does.
    pub fn start(url: String) -> Self {
        let (view, stop) = (Arc::new(Mutex::new(View::default())), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (view.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A runtime for each connection: nothing of the last one is left.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let _ = runtime.block_on(follow(&url, &seen, &stopped));
                runtime.shutdown_background();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { view, stop, thread: Some(thread) }
    }

    pub fn view(&self) -> View {
        self.view.lock().unwrap().clone()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn follow(url: &str, view: &Mutex<View>, stop: &AtomicBool) -> Result<(), async_nats::Error> {
    let client = async_nats::connect(url).await?;
    let stream = jetstream::new(client.clone()).get_stream("ROOMKEEPER").await?;
    let from = DeliverPolicy::ByStartSequence { start_sequence: view.lock().unwrap().message + 1 };
    let mut messages = stream.create_consumer(pull::OrderedConfig { deliver_policy: from, ..Default::default() }).await?.messages().await?;
    view.lock().unwrap().connections += 1;
    while !stop.load(Ordering::Relaxed) && client.connection_state() == async_nats::connection::State::Connected {
        let Ok(Some(message)) = timeout(Duration::from_millis(200), messages.next()).await else { continue };
        let message = message?;
        let fact = ToldFact::read(&message.payload)?;
        let number = message.info()?.stream_sequence;
        take(&mut view.lock().unwrap(), &fact, number);
    }
    Ok(())
}

fn take(view: &mut View, fact: &ToldFact, number: u64) {
    view.message = number;
    match view.counted.count(fact) {
        Count::Double => {
            view.doubles += 1;
            return;
        }
        Count::After { missing } => view.missing += missing,
        Count::New => {}
    }
    view.facts.entry(fact.id).or_default().push(fact.seq);
}
