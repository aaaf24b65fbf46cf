//! Ranks that are threads of one process: the same collectives without MPI.

use super::transport::{CommunicationError, Transport};
use std::sync::mpsc::{Receiver, Sender, channel};

/// One rank of a [`group`].
#[derive(Debug)]
pub struct ThreadTransport {
    rank: usize,
    to: Vec<Sender<Message>>,
    from: Vec<Receiver<Message>>,
}

#[derive(Debug)]
enum Message {
    Bytes(Vec<u8>),
    Values(Vec<f32>),
}

/// The ranks of a group of `ranks`, each to be given to a thread of its own.
pub fn group(ranks: usize) -> Vec<ThreadTransport> {
    let mut group: Vec<ThreadTransport> = (0..ranks)
        .map(|rank| ThreadTransport {
            rank,
            to: Vec::new(),
            from: Vec::new(),
        })
        .collect();
    for sender in 0..ranks {
        for receiver in 0..ranks {
            let (to, from) = channel();
            group[sender].to.push(to);
            group[receiver].from.push(from);
        }
    }
    group
}

impl ThreadTransport {
    fn send(&self, rank: usize, message: Message) -> Result<(), CommunicationError> {
        let sent = self.to[rank].send(message);
        sent.map_err(|_| CommunicationError::Left { rank })
    }

    fn receive(&self, rank: usize) -> Result<Message, CommunicationError> {
        let received = self.from[rank].recv();
        received.map_err(|_| CommunicationError::Left { rank })
    }

    fn values_of(&self, rank: usize, expected: usize) -> Result<Vec<f32>, CommunicationError> {
        match self.receive(rank)? {
            Message::Values(values) if values.len() == expected => Ok(values),
            other => Err(disagreement(rank, &format!("{expected} values"), &other)),
        }
    }
}

fn disagreement(rank: usize, expected: &str, found: &Message) -> CommunicationError {
    let found = match found {
        Message::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Message::Values(values) => format!("{} values", values.len()),
    };
    CommunicationError::Disagreement {
        what: format!("expected {expected} from rank {rank}, found {found}"),
    }
}

impl Transport for ThreadTransport {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    fn all_gather(&mut self, own: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        for rank in 0..self.ranks() {
            self.send(rank, Message::Bytes(own.clone()))?;
        }
        let mut all = Vec::with_capacity(own.len() * self.ranks());
        for rank in 0..self.ranks() {
            match self.receive(rank)? {
                Message::Bytes(bytes) if bytes.len() == own.len() => all.extend(bytes),
                other => return Err(disagreement(rank, &format!("{} bytes", own.len()), &other)),
            }
        }
        Ok(all)
    }

    fn all_gather_values(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        for rank in 0..self.ranks() {
            self.send(rank, Message::Values(own.clone()))?;
        }
        let mut all = Vec::with_capacity(own.len() * self.ranks());
        for rank in 0..self.ranks() {
            all.extend(self.values_of(rank, own.len())?);
        }
        Ok(all)
    }

    fn all_to_all(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        let block = own.len() / self.ranks();
        for rank in 0..self.ranks() {
            let values = own[rank * block..(rank + 1) * block].to_vec();
            self.send(rank, Message::Values(values))?;
        }
        let mut all = Vec::with_capacity(own.len());
        for rank in 0..self.ranks() {
            all.extend(self.values_of(rank, block)?);
        }
        Ok(all)
    }
}
