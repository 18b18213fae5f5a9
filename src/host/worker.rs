//! A thread that does for a host what may take long, and the way to it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};

use super::berth::lock;

/// The thread, and the way to it. It ends when this is dropped, once it is done with what it is at.
pub(super) struct Worker<Ask, Answer> {
    way: Option<(Sender<Ask>, Receiver<Answer>)>,
    thread: Option<JoinHandle<()>>,
}

impl<Ask: Send + 'static, Answer: Send + 'static> Worker<Ask, Answer> {
    /// `host` is woken whenever there is an answer. `work` takes what is asked until nothing more can come, and tells what came of it: that is false if nobody hears
    /// it any more.
    pub(super) fn start(
        name: &str,
        host: Arc<Mutex<Thread>>,
        work: impl FnOnce(&Receiver<Ask>, &dyn Fn(Answer) -> bool) + Send + 'static,
    ) -> std::io::Result<Self> {
        let ((asks, asked), (tell, answers)) = (channel(), channel());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let tell = |answer| {
                let is_heard = tell.send(answer).is_ok();
                if is_heard {
                    lock(&host).unpark();
                }
                is_heard
            };
            work(&asked, &tell);
        })?;
        Ok(Self { way: Some((asks, answers)), thread: Some(thread) })
    }

    pub(super) fn ask(&self, ask: Ask) {
        if let Some((asks, _)) = &self.way {
            // The thread ends only with this.
            let _ = asks.send(ask);
        }
    }

    pub(super) fn next_answer(&self) -> Option<Answer> {
        self.way.as_ref().and_then(|(_, answers)| answers.try_recv().ok())
    }
}

impl<Ask, Answer> Drop for Worker<Ask, Answer> {
    fn drop(&mut self) {
        // What waits is not done any more.
        drop(self.way.take());
        // One that panicked has said so.
        self.thread.take().map(JoinHandle::join).into_iter().for_each(drop);
    }
}
