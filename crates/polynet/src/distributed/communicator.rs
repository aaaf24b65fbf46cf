//! A rank's view of the others.

use super::launch::LaunchError;
use super::sum::{self, Contribution};
use super::transport::{CommunicationError, Transport};
use crate::bytes;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a rank waits for others: far longer than any of them computes between two collectives.
pub(super) const PATIENCE: Duration = Duration::from_secs(1800);

/// Collectives over all ranks, on a thread of their own, so that they run while the rank computes.
///
/// They are done in the order of the calls, which must be the same on every rank.
#[derive(Debug)]
pub struct Communicator {
    rank: usize,
    ranks: usize,
    patience: Duration,
    worker: Option<Worker>,
}

#[derive(Debug)]
struct Worker {
    requests: Mutex<Option<Sender<Request>>>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Gather(Vec<u8>, Sender<Answer<Vec<Vec<u8>>>>),
    Sum(Contribution, Sender<Answer<Vec<f32>>>),
}

type Answer<T> = (Result<T, CommunicationError>, Duration);

/// A collective that is under way.
#[derive(Debug)]
pub struct Pending<T> {
    answer: Receiver<Answer<T>>,
    patience: Duration,
}

impl<T> Pending<T> {
    /// Its result.
    ///
    /// # Errors
    /// If a rank is gone or does not answer in time, or the ranks do not exchange the same.
    pub fn wait(self) -> Result<T, CommunicationError> {
        self.wait_timed().map(|(result, _)| result)
    }

    /// Its result, and how long the collective itself took.
    pub(super) fn wait_timed(self) -> Result<(T, Duration), CommunicationError> {
        let answer = self.answer.recv_timeout(self.patience);
        let (result, took) = answer.map_err(|error| match error {
            RecvTimeoutError::Disconnected => CommunicationError::Closed,
            RecvTimeoutError::Timeout => CommunicationError::Silent {
                seconds: self.patience.as_secs(),
            },
        })?;
        Ok((result?, took))
    }
}

impl Communicator {
    /// The only rank of a run.
    pub fn alone() -> Self {
        Self {
            rank: 0,
            ranks: 1,
            patience: PATIENCE,
            worker: None,
        }
    }

    /// A rank of any transport, such as [`ThreadTransport`](super::threads::ThreadTransport).
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub fn over(transport: impl Transport + Send + 'static) -> Result<Self, LaunchError> {
        Self::open(move || Ok(transport))
    }

    /// A rank whose transport is opened, used and closed by one thread.
    pub(super) fn open<T, F>(open: F) -> Result<Self, LaunchError>
    where
        T: Transport,
        F: FnOnce() -> Result<T, LaunchError> + Send + 'static,
    {
        let (requests, incoming) = channel();
        let (opened, answer) = channel();
        let serving = move || match open() {
            Ok(mut transport) => {
                let _ = opened.send(Ok((transport.rank(), transport.ranks())));
                serve(&mut transport, &incoming);
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        };
        let failed = |reason: String| LaunchError::Start { reason };
        let thread = std::thread::Builder::new().name("communication".into());
        let thread = thread
            .spawn(serving)
            .map_err(|error| failed(error.to_string()))?;
        let answer = answer.recv();
        let (rank, ranks) = answer.map_err(|_| failed("its thread has ended".to_owned()))??;
        Ok(Self {
            rank,
            ranks,
            patience: PATIENCE,
            worker: Some(Worker {
                requests: Mutex::new(Some(requests)),
                thread: Some(thread),
            }),
        })
    }

    /// The same, which waits so long for other ranks at each collective. Half an hour unless this is called.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Whether this is the rank that writes files and reports.
    pub fn is_writer(&self) -> bool {
        self.rank == 0
    }

    /// Every rank's bytes in the order of the ranks.
    ///
    /// # Errors
    /// If a rank is gone or does not answer in time, or the ranks do not exchange the same.
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        match &self.worker {
            None => Ok(vec![own]),
            Some(worker) => {
                let request = |answer| Request::Gather(own, answer);
                worker.start(request, self.patience).wait()
            }
        }
    }

    /// Begins to add all parts of all ranks, in their order; every rank gets the sum.
    pub fn sum(&self, own: Contribution) -> Pending<Vec<f32>> {
        match &self.worker {
            None => {
                let (answer, pending) = channel();
                let mut alone = super::threads::group(1);
                let sum = sum::ordered(&mut alone[0], &own);
                let _ = answer.send((sum, Duration::ZERO));
                Pending {
                    answer: pending,
                    patience: self.patience,
                }
            }
            Some(worker) => worker.start(|answer| Request::Sum(own, answer), self.patience),
        }
    }
}

impl Worker {
    fn start<T>(
        &self,
        request: impl FnOnce(Sender<Answer<T>>) -> Request,
        patience: Duration,
    ) -> Pending<T> {
        let (answer, pending) = channel();
        let requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(requests) = &*requests {
            // A thread that has ended drops the request, and with it the answer's sender.
            let _ = requests.send(request(answer));
        }
        Pending {
            answer: pending,
            patience,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        *self.requests.lock().unwrap_or_else(|e| e.into_inner()) = None;
        // After a panic the others are not waited for.
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            let _ = thread.join();
        }
    }
}

/// Does what is asked for until nobody is left to ask, or a collective fails.
fn serve(transport: &mut dyn Transport, requests: &Receiver<Request>) {
    while let Ok(request) = requests.recv() {
        let started = Instant::now();
        let failed = match request {
            Request::Gather(own, answer) => {
                let result = gather(transport, &own);
                let failed = result.is_err();
                let _ = answer.send((result, started.elapsed()));
                failed
            }
            Request::Sum(own, answer) => {
                let result = sum::ordered(transport, &own);
                let failed = result.is_err();
                let _ = answer.send((result, started.elapsed()));
                failed
            }
        };
        if failed {
            return;
        }
    }
}

/// Bytes of any number from each rank: the numbers first, then all in blocks as long as the longest.
fn gather(transport: &mut dyn Transport, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicationError> {
    let lengths = transport.all_gather(bytes::of_words([own.len() as u64]))?;
    let lengths: Vec<usize> = bytes::words(&lengths)
        .map(|length| length as usize)
        .collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut padded = own.to_vec();
    padded.resize(longest, 0);
    let all = transport.all_gather(padded)?;
    let blocks = lengths.iter().enumerate();
    Ok(blocks
        .map(|(rank, length)| all[rank * longest..rank * longest + length].to_vec())
        .collect())
}
