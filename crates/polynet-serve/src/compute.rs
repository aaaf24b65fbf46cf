//! Who decodes and who computes: one pool of threads for both, rayon's, and one thread that hands it
//! batch after batch.

use crate::failure::{Failure, Kind};
use crate::metrics::{Metrics, Part};
use crate::models::LoadedModel;
use crate::options::Batching;
use crate::queue::{Job, Queue, Reply, Work};
use image::RgbImage;
use polynet::Explanation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Is shown the images of each batch before it is computed, and may hold it: the tests' way to know
/// what waits and what is computed.
pub(crate) type Gate = Arc<dyn Fn(usize) + Send + Sync>;

/// A place in the queue, for one image or several.
#[derive(Debug)]
pub(crate) struct Place(OwnedSemaphorePermit);

pub(crate) struct Compute {
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    capacity: usize,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Compute {
    /// Starts the thread that computes.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub(crate) fn start(
        batching: Batching,
        capacity: usize,
        metrics: &Arc<Metrics>,
        gate: Option<Gate>,
    ) -> std::io::Result<Self> {
        let capacity = capacity.min(Semaphore::MAX_PERMITS);
        let queue = Arc::new(Queue::new(batching, Arc::clone(metrics)));
        let (jobs, counts) = (Arc::clone(&queue), Arc::clone(metrics));
        let thread = std::thread::Builder::new().name("compute".to_owned());
        let thread = thread.spawn(move || {
            while let Some(batch) = jobs.next_batch() {
                compute(batch, gate.as_ref(), &counts);
            }
        })?;
        Ok(Self {
            queue,
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            metrics: Arc::clone(metrics),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// A place for one image.
    ///
    /// # Errors
    /// If all are taken.
    pub(crate) fn admit(&self) -> Result<Place, Failure> {
        self.places(1).map(Place)
    }

    fn places(&self, images: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let places = u32::try_from(images).ok();
        let taken = places.map(|images| Arc::clone(&self.places).try_acquire_many_owned(images));
        taken.and_then(Result::ok).ok_or_else(|| {
            let message = format!(
                "the queue is full: {} images wait or are computed, as many as this server takes; \
                 try again in a second, or start it with a longer --queue",
                self.capacity - self.places.available_permits()
            );
            Failure::new(Kind::QueueFull, message)
        })
    }

    /// The same place for `images` images.
    ///
    /// # Errors
    /// If there are not so many places free, or not so many at all.
    pub(crate) fn widen(&self, place: Place, images: usize) -> Result<Place, Failure> {
        if images > self.capacity {
            let message = format!(
                "expected at most {} images, as many as the queue has places for, got {images}; send \
                 them in several requests",
                self.capacity
            );
            return Err(Failure::new(Kind::TooLarge, message));
        }
        let mut place = place;
        place.0.merge(self.places(images.saturating_sub(1))?);
        Ok(place)
    }

    /// Does `work` in the pool, unless nobody waits for it when its turn comes.
    ///
    /// # Errors
    /// What `work` gives, and if it panics.
    pub(crate) async fn decode<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let metrics = Arc::clone(&self.metrics);
        rayon::spawn(move || {
            if reply.is_closed() {
                return;
            }
            let started = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(work));
            metrics.part(Part::Decode, started.elapsed());
            // Whoever left does not want it.
            let _ = reply.send(done.unwrap_or_else(|_| Err(Failure::internal())));
        });
        answer.await.unwrap_or_else(|_| Err(Failure::internal()))
    }

    /// The logits `[images, classes]` of prepared images, computed with what else waits.
    ///
    /// # Errors
    /// If there is no place for all the images, or the model gives no numbers.
    pub(crate) async fn logits(
        &self,
        place: Place,
        model: &Arc<LoadedModel>,
        inputs: Vec<f32>,
    ) -> Result<Vec<f32>, Failure> {
        let images = inputs.len() / model.input_len().max(1);
        let place = self.widen(place, images)?;
        let work = |reply| Work::Logits { inputs, reply };
        self.answer(place, model, images, work).await
    }

    /// What of a picture speaks for its `top` classes.
    ///
    /// # Errors
    /// If the model's weights can't be read again.
    pub(crate) async fn explanation(
        &self,
        place: Place,
        model: &Arc<LoadedModel>,
        picture: RgbImage,
        top: usize,
    ) -> Result<Explanation, Failure> {
        let work = |reply| Work::Explanation {
            picture,
            top,
            reply,
        };
        self.answer(place, model, 1, work).await
    }

    async fn answer<T>(
        &self,
        place: Place,
        model: &Arc<LoadedModel>,
        images: usize,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let mut wait = Wait {
            answer,
            queue: &self.queue,
        };
        self.queue.push(Job {
            model: Arc::clone(model),
            images,
            queued: Instant::now(),
            work: work(reply),
            place: place.0,
        });
        let answer = (&mut wait.answer).await;
        answer.unwrap_or_else(|_| Err(Failure::internal()))
    }

    /// Computes what waits, then ends the thread.
    pub(crate) fn stop(&self) {
        self.queue.close();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that computes has panicked");
        }
    }
}

/// A request that waits for its answer; one that is dropped takes its job out of the queue.
struct Wait<'a, T> {
    answer: oneshot::Receiver<Result<T, Failure>>,
    queue: &'a Queue,
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        self.answer.close();
        self.queue.drop_unwanted();
    }
}

/// Computes a batch: jobs of one model that share it, or one that shares with none.
fn compute(mut batch: Vec<Job>, gate: Option<&Gate>, metrics: &Metrics) {
    if let Some(gate) = gate {
        gate(batch.iter().map(|job| job.images).sum());
    }
    batch.retain(Job::is_wanted);
    let Some(first) = batch.first() else {
        return;
    };
    let model = Arc::clone(&first.model);
    let images = batch.iter().map(|job| job.images).sum();
    metrics.batch(model.name(), model.version(), images);
    let mut inputs = Vec::new();
    let mut waiting = Vec::new();
    for job in batch {
        metrics.part(Part::Queue, job.queued.elapsed());
        match job.work {
            Work::Logits { inputs: own, reply } => {
                match inputs.is_empty() {
                    true => inputs = own,
                    false => inputs.extend(own),
                }
                waiting.push((job.images, job.place, reply));
            }
            Work::Explanation {
                picture,
                top,
                reply,
            } => {
                let found = timed(metrics, || model.explain(&picture, top));
                drop(job.place);
                // Whoever left does not want it.
                let _ = reply.send(found.and_then(|found| found));
            }
        }
    }
    if waiting.is_empty() {
        return;
    }
    let logits = timed(metrics, || model.logits(&inputs));
    let mut from = 0;
    for (images, place, reply) in waiting {
        let to = from + images * model.classes().len();
        let answer = match &logits {
            Ok(logits) => finite(&logits[from..to]),
            Err(failure) => Err(failure.clone()),
        };
        from = to;
        drop(place);
        // Whoever left does not want it.
        let _ = reply.send(answer);
    }
}

/// What `work` gives, with its time in the metrics.
fn timed<T>(metrics: &Metrics, work: impl FnOnce() -> T) -> Result<T, Failure> {
    let started = Instant::now();
    let found = catch_unwind(AssertUnwindSafe(work));
    metrics.part(Part::Compute, started.elapsed());
    found.map_err(|_| Failure::internal())
}

/// Logits that can be told as JSON.
fn finite(logits: &[f32]) -> Result<Vec<f32>, Failure> {
    if logits.iter().all(|logit| logit.is_finite()) {
        return Ok(logits.to_vec());
    }
    let message = "the logits of these inputs are no finite numbers; expected pixels as the model's \
                   preprocessing makes them, mostly between -3 and 3";
    Err(Failure::bad_request(message))
}
