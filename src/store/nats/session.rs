//! A connection to NATS, with a small runtime of its own: whatever it began ends with it. Nothing of an earlier connection is sent by a later one,
//! which could change the order.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::context::{Context, ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, RetentionPolicy, Stream};
use async_nats::jetstream::{self, ErrorCode};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::error::in_full;
use super::super::tables::RoomKey;
use super::fact::ToldFact;
use super::failure::NatsError;
use super::options::{NatsOptions, PATIENCE, Target};
use super::publisher::Shared;
use super::subject::{covers, of_room};

/// How many bytes the headers of a message take at most.
const HEADER_BYTES: usize = 512;

/// For how long one room is told on before the others come to their turn.
const TURN: Duration = Duration::from_millis(250);

/// The last message of a room in the stream.
pub(super) enum Last {
    /// There is none.
    Nothing,
    /// This fact.
    Fact(Box<ToldFact>),
    /// Something that is no fact of ours.
    Foreign,
}

/// A message on its way.
pub(super) struct Message {
    pub(super) seq: u64,
    pub(super) subject: String,
    pub(super) id: String,
    pub(super) payload: Vec<u8>,
}

/// The next facts of a room.
pub(super) struct Run {
    pub(super) key: RoomKey,
    pub(super) room: String,
    pub(super) messages: Vec<Message>,
}

/// What came of it.
pub(super) struct Ran {
    pub(super) key: RoomKey,
    /// How many the stream has.
    pub(super) taken: usize,
    /// How many of them it had before.
    pub(super) doubles: u64,
    failure: Option<NatsError>,
}

/// An open connection, and a stream that takes facts.
pub(super) struct Session {
    runtime: Option<Runtime>,
    client: Client,
    context: Context,
    stream: Stream,
    servers: String,
    shared: Arc<Shared>,
    /// When the stream was made: what tells it from another one of its name.
    pub(super) created: String,
    /// How long a payload may be.
    pub(super) payload_max: usize,
}

impl Session {
    /// Connects, and finds or makes the stream.
    pub(super) fn open(target: &Target, shared: Arc<Shared>) -> Result<Self, NatsError> {
        let options = target.connect_options()?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| NatsError::Io { what: "a connection needs a poller of the system's", error })?;
        let unreachable = |detail: String| NatsError::Unreachable { servers: target.shown.clone(), detail };
        let opened = runtime.block_on(in_time(&shared, async {
            let connected = timeout(PATIENCE, options.connect(target.servers.clone())).await;
            let client = connected
                .map_err(|_| unreachable(format!("no answer within {PATIENCE:?}")))?
                .map_err(|error| unreachable(in_full(&error)))?;
            let context = ContextBuilder::new().timeout(PATIENCE).build(client.clone());
            let stream = find_stream(&context, &target.options).await?;
            Ok::<_, NatsError>((client, context, stream))
        }));
        match opened.unwrap_or_else(|| Err(unreachable("its time is up".to_owned()))) {
            Ok((client, context, stream)) => {
                let info = stream.cached_info();
                let (created, of_stream) = (info.created.to_string(), usize::try_from(info.config.max_message_size).unwrap_or(0));
                let of_server = client.max_payload();
                let payload_max = if of_stream > 0 { of_server.min(of_stream) } else { of_server }.saturating_sub(HEADER_BYTES);
                let servers = target.shown.clone();
                Ok(Self { runtime: Some(runtime), client, context, stream, servers, shared, created, payload_max })
            }
            Err(error) => {
                // A look-up of a name that hangs is left behind.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, NatsError>>) -> Result<T, NatsError> {
        let Some(runtime) = &self.runtime else { return Err(self.broken()) };
        runtime.block_on(in_time(&self.shared, work)).unwrap_or_else(|| Err(self.broken()))
    }

    fn broken(&self) -> NatsError {
        NatsError::Broken { servers: self.servers.clone() }
    }

    fn stream_failed(&self, detail: String) -> NatsError {
        NatsError::Stream { stream: self.stream.cached_info().config.name.clone(), detail }
    }

    /// True if the stream lets messages go in the order in which they came, so that the last one is there as long as any is.
    pub(super) fn keeps_the_last(&self) -> bool {
        self.stream.cached_info().config.retention == RetentionPolicy::Limits
    }

    /// Lets the connection live for a time in which there is nothing to do.
    pub(super) fn idle(&self, time: Duration) -> Result<(), NatsError> {
        self.wait(async {
            sleep(time).await;
            if self.client.connection_state() == State::Connected { Ok(()) } else { Err(self.broken()) }
        })
    }

    /// The last messages of rooms.
    pub(super) fn last_of(&self, prefix: &str, rooms: Vec<(RoomKey, String)>) -> Result<BTreeMap<RoomKey, Last>, NatsError> {
        self.wait(async {
            let mut asked = JoinSet::new();
            for (key, room) in rooms {
                let (stream, subject) = (self.stream.clone(), of_room(prefix, &room));
                asked.spawn(async move { (key, last_of(&stream, &subject).await) });
            }
            let mut all = BTreeMap::new();
            while let Some(answer) = asked.join_next().await {
                let Ok((key, last)) = answer else { return Err(self.broken()) };
                all.insert(key, last?);
            }
            Ok(all)
        })
    }

    /// Tells facts of several rooms: of each room one after the other, each only once the stream has the one before. What was taken is told even if
    /// something failed.
    pub(super) fn publish(&self, runs: Vec<Run>) -> (Vec<Ran>, Option<NatsError>) {
        let mut ran = Vec::new();
        let all = self.wait(async {
            // Another one of its name, which an operator or another host made meanwhile, has nothing of what this one had.
            let info = self.stream.get_info().await.map_err(|error| self.stream_failed(in_full(&error)))?;
            if info.created.to_string() != self.created {
                return Err(self.stream_failed("it was made anew".to_owned()));
            }
            let (mut going, until) = (JoinSet::new(), Instant::now() + TURN);
            for run in runs {
                let (context, stream) = (self.context.clone(), self.stream.cached_info().config.name.clone());
                going.spawn(async move { tell(&context, &stream, run, until).await });
            }
            let mut failure = None;
            while let Some(done) = going.join_next().await {
                let Ok(mut done) = done else { return Err(self.broken()) };
                failure = failure.or(done.failure.take());
                ran.push(done);
            }
            failure.map_or(Ok(()), Err)
        });
        (ran, all.err())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for something, but not beyond the time that a publisher has which is to stop: a server that hangs keeps no process from ending.
async fn in_time<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    let stopped = async {
        while !shared.is_out_of_time() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (mut stopped, mut work) = (pin!(stopped), pin!(work));
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => stopped.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Finds the stream, or makes one, and makes sure that it takes facts.
async fn find_stream(context: &Context, options: &NatsOptions) -> Result<Stream, NatsError> {
    let name = options.stream.clone();
    let failed = |detail: String| NatsError::Stream { stream: name.clone(), detail };
    let wanted = format!("{}.*.*", options.prefix);
    let stream = match context.get_stream(&options.stream).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                let config = Config {
                    name: options.stream.clone(),
                    subjects: vec![format!("{}.>", options.prefix)],
                    description: Some("facts of roomkeeper's rooms".to_owned()),
                    ..Config::default()
                };
                let made = context.create_stream(config).await;
                made.map_err(|error| failed(format!("it is not there, and can't be made: {}", in_full(&error))))?
            }
            _ => return Err(failed(in_full(&error))),
        },
    };
    let config = &stream.cached_info().config;
    if config.no_ack {
        return Err(NatsError::Unacknowledged { stream: name });
    }
    if !config.subjects.iter().any(|subject| covers(subject, &wanted)) {
        return Err(NatsError::Subjects { stream: name, wanted, takes: config.subjects.join(", ") });
    }
    Ok(stream)
}

async fn last_of(stream: &Stream, subject: &str) -> Result<Last, NatsError> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(ToldFact::read(&message.payload).map_or(Last::Foreign, |fact| Last::Fact(Box::new(fact)))),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Last::Nothing),
        Err(error) => Err(NatsError::Stream { stream: stream.cached_info().config.name.clone(), detail: in_full(&error) }),
    }
}

async fn tell(context: &Context, stream: &str, run: Run, until: Instant) -> Ran {
    let mut ran = Ran { key: run.key, taken: 0, doubles: 0, failure: None };
    for Message { seq, subject, id, payload } in run.messages {
        let message = PublishMessage::build().message_id(id).expected_stream(stream).payload(payload.into());
        let answer = timeout(PATIENCE * 2, async { context.send_publish(subject, message).await?.await }).await;
        let detail = match answer {
            Ok(Ok(jetstream::publish::PublishAck { duplicate, .. })) => {
                ran.taken += 1;
                ran.doubles += u64::from(duplicate);
                if Instant::now() >= until {
                    return ran;
                }
                continue;
            }
            Ok(Err(error)) => in_full(&error),
            Err(_) => "no answer".to_owned(),
        };
        ran.failure = Some(NatsError::Refused { room: run.room, seq, detail });
        return ran;
    }
    ran
}
