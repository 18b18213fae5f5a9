//! All clients of a server, in a thread of their own. They move when they are told to, so that the server is timed alone.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::tap::Tap;
use super::{Client, Newcomer, Truth};

/// A client with a full buffer holds more than so many datagrams.
const DATAGRAMS_AT_ONCE: usize = 64;

/// Builds a client.
type Maker = fn(Newcomer) -> Box<dyn Client>;

enum Order {
    Join { maker: Maker, newcomer: Newcomer, tapped: bool },
    Tick(Duration),
    Held,
    Check(Vec<Arc<Truth>>),
    Leave,
}

enum Answer {
    Done,
    Ticked(Tapped),
    Held(Vec<usize>),
}

/// The sizes of the datagrams that came, by member, for those that are tapped.
pub type Tapped = Vec<(usize, Vec<u16>)>;

/// All clients of a server.
pub struct Crew {
    orders: Option<Sender<Order>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    /// Nobody yet.
    pub fn new() -> Self {
        let (orders, to_do) = channel();
        let (done, answers) = channel();
        let thread = std::thread::spawn(move || serve(&to_do, &done));
        Self { orders: Some(orders), answers, thread: Some(thread) }
    }

    fn ask(&self, order: Order) -> Answer {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        assert!(sent, "the clients live");
        self.answers.recv().expect("the clients did as they were told")
    }

    /// One more client, which sends nothing before its first tick. A tapped one has its datagrams measured.
    pub fn join(&self, maker: Maker, newcomer: Newcomer, tapped: bool) {
        self.ask(Order::Join { maker, newcomer, tapped });
    }

    /// Every client takes in what came, applies it and answers.
    pub fn tick(&self, now: Duration) -> Tapped {
        match self.ask(Order::Tick(now)) {
            Answer::Ticked(tapped) => tapped,
            Answer::Done | Answer::Held(_) => Vec::new(),
        }
    }

    /// How many entities each client holds.
    pub fn held(&self) -> Vec<usize> {
        match self.ask(Order::Held) {
            Answer::Held(held) => held,
            Answer::Done | Answer::Ticked(_) => Vec::new(),
        }
    }

    /// Asserts that each client holds what it is to hold, bit for bit.
    pub fn check(&self, truths: Vec<Arc<Truth>>) {
        self.ask(Order::Check(truths));
    }

    /// The client that joined last goes.
    pub fn leave(&self) {
        self.ask(Order::Leave);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A client that failed has said so.
            let _ = thread.join();
        }
    }
}

struct Member {
    client: Box<dyn Client>,
    tap: Option<Tap>,
}

impl Member {
    fn tick(&mut self, now: Duration) -> Option<Vec<u16>> {
        let sizes = self.tap.as_mut().map(|tap| {
            let mut sizes = Vec::new();
            while tap.pass_down(DATAGRAMS_AT_ONCE, &mut sizes) {
                self.client.drain(now);
            }
            sizes
        });
        self.client.tick(now);
        if let Some(tap) = &mut self.tap {
            tap.pass_up();
        }
        sizes
    }
}

fn serve(to_do: &Receiver<Order>, done: &Sender<Answer>) {
    let mut members: Vec<Member> = Vec::new();
    while let Ok(order) = to_do.recv() {
        let answer = match order {
            Order::Join { maker, newcomer, tapped } => {
                let tap = tapped.then(|| Tap::new(newcomer.server));
                let server = tap.as_ref().map_or(newcomer.server, Tap::address);
                members.push(Member { client: maker(Newcomer { server, ..newcomer }), tap });
                Answer::Done
            }
            Order::Tick(now) => {
                let ticked = members.iter_mut().enumerate().filter_map(|(n, member)| Some((n, member.tick(now)?)));
                Answer::Ticked(ticked.collect())
            }
            Order::Held => Answer::Held(members.iter_mut().map(|member| member.client.held()).collect()),
            Order::Check(truths) => {
                for (number, (member, truth)) in members.iter_mut().zip(&truths).enumerate() {
                    let state = member.client.state();
                    assert_eq!(state.len(), truth.len(), "client {number} holds as many entities as it is to see");
                    assert!(state == **truth, "client {number} holds the server's state bit for bit");
                }
                Answer::Done
            }
            Order::Leave => {
                if let Some(Member { mut client, tap }) = members.pop() {
                    client.leave();
                    if let Some(mut tap) = tap {
                        tap.pass_up();
                    }
                }
                Answer::Done
            }
        };
        if done.send(answer).is_err() {
            return;
        }
    }
}
