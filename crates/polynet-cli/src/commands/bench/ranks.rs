//! `mpirun -n N polynet bench ranks`: what exchanging gradients costs, against the cost model.

use super::{NetworkArguments, images, paper_optimizer};
use crate::output;
use anyhow::Result;
use polynet::distributed::cost::{Cluster, Link, StepCost};
use polynet::distributed::{BUCKET_BYTES, Buckets, Communicator, Contribution};
use polynet::train::{Optimizer, StepOfRanks};
use polynet::{
    BatchPart, Device, GradientObserver, Gradients, Graph, LossOptions, Params, Paths, StepOptions,
    TrainingEngine,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Values of the long exchange by which a link is measured: 16 MiB.
const MANY: usize = 1 << 22;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) network: NetworkArguments,
    /// Let the batch norms of all ranks have their statistics in common
    #[arg(long)]
    synchronised: bool,
}

/// Medians over the repetitions, of rank 0.
#[derive(Serialize)]
struct Measurement {
    network: String,
    ranks: usize,
    batch: usize,
    threads: usize,
    /// Whether batch norms have their statistics in common.
    synchronised: bool,
    gradient_bytes: u64,
    link: Link,
    /// A step without exchange, while the other ranks make theirs.
    compute_s: f64,
    /// Exchanging all gradients while nothing is computed.
    exchange_s: f64,
    /// A whole step: gradients are exchanged while the backward pass goes on.
    step_s: f64,
    /// For how much of a whole step the rank waited for the exchange.
    waited_s: f64,
    images_per_s: f64,
    /// Of the images that as many ranks would train without any exchange.
    efficiency: f64,
    /// The cost model's, from compute_s and link.
    predicted_exchange_s: f64,
    predicted_step_s: f64,
}

/// A rank's network and what it trains on.
struct Bench<'a> {
    ranks: &'a Communicator,
    graph: Arc<Graph>,
    params: Params,
    engine: TrainingEngine,
    optimizer: Optimizer,
    paths: Paths,
    images: Vec<f32>,
    labels: Vec<usize>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (arguments, synchronised) = (&arguments.network, arguments.synchronised);
    let ranks = Communicator::of_launcher()?;
    let mut bench = Bench::new(arguments, &ranks)?;
    let compute_s = bench
        .median(arguments, |bench| bench.step_alone().map(|_| 0.0))?
        .0;
    let gradients = bench.host_gradients()?;
    let exchange_s = bench
        .median(arguments, |bench| {
            let mut buckets = bench.buckets();
            for (index, gradient) in &gradients {
                buckets.add(*index, gradient.iter().copied());
            }
            Ok(buckets.finish().map(|_| 0.0)?)
        })?
        .0;
    let (step_s, waited_s) = bench.median(arguments, |bench| match synchronised {
        true => bench.synchronised_step(),
        false => bench.step(),
    })?;
    let link = bench.link(arguments)?;
    if !ranks.is_writer() {
        return Ok(ExitCode::SUCCESS);
    }
    let values: usize = gradients.iter().map(|(_, gradient)| gradient.len()).sum();
    let (batch, gradient_bytes) = (usize::from(arguments.batch), 4 * values as u64);
    let cluster = Cluster {
        ranks: ranks.ranks(),
        link,
    };
    let statistics = bench.gradients(&mut |_, _| {}).statistics;
    let norms = statistics.iter().map(|norm| norm.mean.len());
    let model = StepCost::new(compute_s, gradient_bytes, BUCKET_BYTES);
    let model = match synchronised {
        true => model.with_synchronised_norms(norms),
        false => model,
    };
    let measurement = Measurement {
        network: arguments.architecture()?.to_string(),
        ranks: ranks.ranks(),
        batch,
        threads: rayon::current_num_threads(),
        synchronised,
        gradient_bytes,
        link,
        compute_s,
        exchange_s,
        step_s,
        waited_s,
        images_per_s: (ranks.ranks() * batch) as f64 / step_s,
        efficiency: compute_s / step_s,
        predicted_exchange_s: model.exchange_s(&cluster),
        predicted_step_s: model.seconds(&cluster),
    };
    if arguments.json {
        output::json(&measurement)?;
    } else {
        output::line(&measurement)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> Bench<'a> {
    fn new(arguments: &NetworkArguments, ranks: &'a Communicator) -> Result<Self> {
        let architecture = arguments.architecture()?;
        let graph = Arc::new(architecture.graph()?);
        let params = Params::init(&graph, 0);
        let (batch, size) = (usize::from(arguments.batch), architecture.input_size);
        Ok(Self {
            ranks,
            engine: TrainingEngine::new(Arc::clone(&graph), Device::Cpu),
            optimizer: Optimizer::new(paper_optimizer()?, &params),
            paths: Paths::all(&graph),
            images: images(batch, size),
            labels: (0..batch).map(|i| i % architecture.num_classes).collect(),
            graph,
            params,
        })
    }

    /// Median seconds of `work`, and of what it gives, over the repetitions; all ranks begin each
    /// together. The first two, which fill caches and memory, do not count.
    fn median(
        &mut self,
        arguments: &NetworkArguments,
        mut work: impl FnMut(&mut Self) -> Result<f64>,
    ) -> Result<(f64, f64)> {
        let (mut seconds, mut results) = (Vec::new(), Vec::new());
        for repetition in 0..arguments.repeat + 2 {
            self.ranks.gather(Vec::new())?;
            let start = Instant::now();
            let result = work(self)?;
            if repetition >= 2 {
                seconds.push(start.elapsed().as_secs_f64());
                results.push(result);
            }
        }
        let middle = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Ok((middle(seconds), middle(results)))
    }

    fn buckets(&self) -> Buckets<'a> {
        let rows = vec![1; self.ranks.ranks()];
        Buckets::new(self.ranks, rows, Vec::new(), self.params.len())
    }

    fn gradients(&mut self, observe: &mut GradientObserver<'_>) -> Gradients {
        let options = StepOptions::new(LossOptions::default(), &self.paths);
        let part = part(&self.images, &self.labels);
        self.engine.gradients(&self.params, part, &options, observe)
    }

    fn step_alone(&mut self) -> Result<()> {
        let gradients = self.gradients(&mut |_, _| {});
        self.params
            .update_statistics(&self.graph, &gradients.statistics);
        self.optimizer
            .update(&mut self.params, &gradients.tensors, 1e-4);
        Ok(())
    }

    /// A step with the other ranks; seconds of waiting for them.
    fn step(&mut self) -> Result<f64> {
        if self.ranks.ranks() == 1 {
            return self.step_alone().map(|()| 0.0);
        }
        let mut buckets = self.buckets();
        let factor = 1.0 / self.ranks.ranks() as f32;
        let gradients = self.gradients(&mut |index, gradient| {
            buckets.add(index, gradient.iter().map(|g| g * factor));
        });
        self.params
            .update_statistics(&self.graph, &gradients.statistics);
        let summed = buckets.finish()?;
        self.optimizer
            .update(&mut self.params, &summed.tensors, 1e-4);
        Ok(summed.exchange.waited.as_secs_f64())
    }

    /// A step with the other ranks, batch norm included; seconds of waiting for them.
    fn synchronised_step(&mut self) -> Result<f64> {
        let options = StepOptions::new(LossOptions::default(), &self.paths);
        let ranks = self.ranks.ranks();
        let images = vec![self.labels.len(); ranks];
        let mut shared = StepOfRanks::new(self.ranks, images, vec![1; ranks], self.params.len());
        let parts = vec![part(&self.images, &self.labels)];
        let (engine, params) = (&mut self.engine, &mut self.params);
        let output = engine.synchronised_gradients(params, parts, &options, &mut shared)?;
        params.update_statistics(&self.graph, &output.statistics);
        let summed = shared.finish()?;
        self.optimizer.update(params, &summed.tensors, 1e-4);
        Ok(summed.exchange.waited.as_secs_f64())
    }

    /// Gradients by tensor index.
    fn host_gradients(&mut self) -> Result<Vec<(usize, Vec<f32>)>> {
        let mut found = Vec::new();
        self.gradients(&mut |index, gradient| found.push((index, gradient.to_vec())));
        Ok(found)
    }

    /// What the ranks' data goes through, from two exchanges.
    fn link(&mut self, arguments: &NetworkArguments) -> Result<Link> {
        let mut exchange = |length: usize| {
            self.median(arguments, |bench| {
                let contribution = Contribution {
                    parts: vec![vec![1.0; length]],
                    rows: vec![1; bench.ranks.ranks()],
                    length,
                };
                Ok(bench.ranks.sum(contribution).wait().map(|_| 0.0)?)
            })
        };
        let few = exchange(1)?.0;
        let many = exchange(MANY)?.0;
        let ranks = self.ranks.ranks().max(2);
        Ok(Link::measured(ranks, (4, few), (4 * MANY as u64, many)))
    }
}

fn part<'a>(images: &'a [f32], labels: &'a [usize]) -> BatchPart<'a> {
    BatchPart {
        images,
        labels,
        rng: ChaCha8Rng::seed_from_u64(0),
    }
}

impl std::fmt::Display for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |seconds: f64| format!("{:.2} ms", 1e3 * seconds);
        let Link {
            latency_s,
            bytes_per_s,
        } = self.link;
        writeln!(
            f,
            "ranks      {} x {} images, {} threads each",
            self.ranks, self.batch, self.threads
        )?;
        writeln!(f, "gradients  {:.2} MB", self.gradient_bytes as f64 / 1e6)?;
        writeln!(
            f,
            "link       {}, {:.2} GB/s",
            ms(latency_s),
            bytes_per_s / 1e9
        )?;
        writeln!(f, "compute    {}", ms(self.compute_s))?;
        let predicted = ms(self.predicted_exchange_s);
        writeln!(
            f,
            "exchange   {} alone (predicted {predicted})",
            ms(self.exchange_s)
        )?;
        let predicted = ms(self.predicted_step_s);
        let waited = ms(self.waited_s);
        writeln!(
            f,
            "step       {} (predicted {predicted}), {waited} of it waiting",
            ms(self.step_s)
        )?;
        write!(
            f,
            "speed      {:.1} images/s, {:.1} % of what the ranks would do without exchange",
            self.images_per_s,
            100.0 * self.efficiency
        )
    }
}
