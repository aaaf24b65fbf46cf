//! Requests that wait for their batch.
//!
//! The oldest request decides which model is next; others of that model join it in their order, up to
//! the batch's size.

use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::models::LoadedModel;
use crate::options::Batching;
use image::RgbImage;
use polynet::Explanation;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Who waits for an answer.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A request that waits for the model.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) model: Arc<LoadedModel>,
    pub(crate) images: usize,
    pub(crate) queued: Instant,
    pub(crate) work: Work,
    /// Given back when the job is gone, computed or not.
    pub(crate) place: OwnedSemaphorePermit,
}

/// What is asked of the model.
#[derive(Debug)]
pub(crate) enum Work {
    /// The logits of prepared images, `[images, 3, height, width]`. Those of several requests are
    /// computed together.
    Logits {
        inputs: Vec<f32>,
        reply: Reply<Vec<f32>>,
    },
    /// What of a picture speaks for its `top` classes.
    Explanation {
        picture: RgbImage,
        top: usize,
        reply: Reply<Explanation>,
    },
}

impl Job {
    /// Whether somebody waits for it.
    pub(crate) fn is_wanted(&self) -> bool {
        match &self.work {
            Work::Logits { reply, .. } => !reply.is_closed(),
            Work::Explanation { reply, .. } => !reply.is_closed(),
        }
    }

    /// Whether it shares its batch with others.
    fn is_shared(&self) -> bool {
        matches!(self.work, Work::Logits { .. })
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    batching: Batching,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Job>,
    open: bool,
}

impl Queue {
    pub(crate) fn new(batching: Batching, metrics: Arc<Metrics>) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            open: true,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            batching,
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, state: &State) {
        let images: usize = state.waiting.iter().map(|job| job.images).sum();
        self.metrics.waiting.set(images as i64);
        self.changed.notify_all();
    }

    pub(crate) fn push(&self, job: Job) {
        let mut state = self.lock();
        state.waiting.push_back(job);
        self.changed(&state);
    }

    /// Takes out what nobody waits for any more.
    pub(crate) fn drop_unwanted(&self) {
        let mut state = self.lock();
        state.waiting.retain(Job::is_wanted);
        self.changed(&state);
    }

    /// Lets [`Self::next_batch`] end once the queue is empty.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        self.changed(&state);
    }

    /// The jobs to compute next, all of one model; waits for them. `None` when the queue is closed and
    /// empty.
    pub(crate) fn next_batch(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            let Some(first) = state.waiting.front() else {
                if !state.open {
                    return None;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = first.queued.elapsed();
            let (jobs, is_full) = self.batch(&state.waiting);
            if is_full || waited >= self.batching.delay || !state.open {
                let batch = take(&mut state.waiting, &jobs);
                self.changed(&state);
                return Some(batch);
            }
            let rest = self.batching.delay - waited;
            let waited = self.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Places of the jobs that the first one's batch would have, and whether it has no room for more.
    fn batch(&self, waiting: &VecDeque<Job>) -> (Vec<usize>, bool) {
        if !waiting[0].is_shared() {
            return (vec![0], true);
        }
        let mut jobs = Vec::new();
        let mut images = 0;
        for (place, job) in waiting.iter().enumerate() {
            if !job.is_shared() || !Arc::ptr_eq(&job.model, &waiting[0].model) {
                continue;
            }
            if place > 0 && images + job.images > self.batching.images {
                return (jobs, true);
            }
            images += job.images;
            jobs.push(place);
        }
        (jobs, images >= self.batching.images)
    }
}

/// Takes out the jobs at these places, which rise.
fn take(waiting: &mut VecDeque<Job>, places: &[usize]) -> Vec<Job> {
    let mut taken = Vec::with_capacity(places.len());
    for (before, place) in places.iter().enumerate() {
        taken.extend(waiting.remove(place - before));
    }
    taken
}
