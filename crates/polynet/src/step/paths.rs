//! Stochastic paths (paper §4, Fig. 10): which terms of the modules take part in a step.
//!
//! A path is a term other than the identity of a sum that contains the identity: in
//! `I + F + GF + HGF` the paths are `F`, `GF` and `HGF`. Dropping `F` and `HGF` leaves `I + GF`,
//! which still needs F's result but not H's: what no surviving path needs is not computed. The
//! paper's figure keeps the identity in every example, and so it is never dropped here; a module
//! without one drops nothing. In a nested sum, such as the argument of `F(I + G)`, the paths are
//! dropped as in the outer one.
//!
//! A path of module `i` of `n` is dropped with chance `max_drop · i / (n − 1)`.
//!
//! ```
//! use polynet::arch::Architecture;
//! use polynet::Paths;
//! use rand::SeedableRng;
//!
//! let graph = "small-polynet".parse::<Architecture>()?.graph()?;
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let paths = Paths::draw(&graph, 0.25, &mut rng);
//! assert!(paths.count().computed <= paths.count().evaluations);
//! assert_eq!(Paths::draw(&graph, 0.0, &mut rng), Paths::all(&graph));
//! # Ok::<(), polynet::arch::ArchError>(())
//! ```

use crate::arch::cost::node_macs;
use crate::arch::graph::{Graph, ModulePaths, NodeId};
use rand::{Rng, RngExt};
use std::collections::HashMap;

/// The paths that survive, and what must be computed for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The inputs that remain of each sum that lost one.
    kept: HashMap<NodeId, Vec<usize>>,
    /// Whether a node is computed.
    computed: Vec<bool>,
    count: PathCount,
}

/// How much of a network [`Paths`] leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCount {
    /// Paths of all modules.
    pub paths: usize,
    /// Paths that are dropped.
    pub dropped: usize,
    /// Block evaluations of all modules.
    pub evaluations: usize,
    /// Block evaluations that are computed.
    pub computed: usize,
    /// Multiply-accumulates of the whole network for one image.
    pub macs: u64,
    /// Multiply-accumulates that are computed.
    pub computed_macs: u64,
}

impl Paths {
    /// Every path.
    pub fn all(graph: &Graph) -> Self {
        Self::surviving(graph, |_| true)
    }

    /// Paths drawn for one step: `rng` gives one number for each path, in the graph's order. The
    /// chance of being dropped rises linearly from 0 in the first module to `max_drop` in the last.
    pub fn draw(graph: &Graph, max_drop: f64, rng: &mut impl Rng) -> Self {
        let last = graph.module_paths.len().saturating_sub(1).max(1) as f64;
        Self::surviving(graph, |module| {
            rng.random::<f64>() >= max_drop * module as f64 / last
        })
    }

    /// Asks once for each path, by its module's index, whether it survives.
    fn surviving(graph: &Graph, mut survives: impl FnMut(usize) -> bool) -> Self {
        let mut kept = HashMap::new();
        let mut count = PathCount::default();
        for (index, module) in graph.module_paths.iter().enumerate() {
            for sum in &module.sums {
                let dropped: Vec<usize> = (sum.paths.iter().copied())
                    .filter(|_| !survives(index))
                    .collect();
                count.paths += sum.paths.len();
                count.dropped += dropped.len();
                if !dropped.is_empty() {
                    let inputs = 0..graph.nodes[sum.node].inputs.len();
                    let rest = inputs.filter(|position| !dropped.contains(position));
                    kept.insert(sum.node, rest.collect());
                }
            }
        }
        let mut paths = Self {
            kept,
            computed: vec![false; graph.nodes.len()],
            count,
        };
        paths.mark(graph);
        paths
    }

    /// Marks and counts what the logits need.
    fn mark(&mut self, graph: &Graph) {
        self.computed[graph.output()] = true;
        for id in (0..graph.nodes.len()).rev() {
            if self.computed[id] {
                for source in self.inputs(graph, id) {
                    self.computed[source] = true;
                }
            }
        }
        let evaluations = || {
            let of = |module: &ModulePaths| module.evaluations.clone();
            graph.module_paths.iter().flat_map(of)
        };
        let is_computed = |id: &NodeId| self.computed[*id];
        let macs = |id: NodeId| node_macs(graph, id);
        let nodes = 0..graph.nodes.len();
        self.count = PathCount {
            evaluations: evaluations().count(),
            computed: evaluations().filter(is_computed).count(),
            macs: nodes.clone().map(macs).sum(),
            computed_macs: nodes.filter(is_computed).map(macs).sum(),
            ..self.count
        };
    }

    /// How many paths and evaluations are left out.
    pub fn count(&self) -> PathCount {
        self.count
    }

    /// Whether a node is computed.
    pub(crate) fn computes(&self, id: NodeId) -> bool {
        self.computed[id]
    }

    /// The nodes that a node reads.
    pub(crate) fn inputs(&self, graph: &Graph, id: NodeId) -> Vec<NodeId> {
        let inputs = &graph.nodes[id].inputs;
        match self.kept.get(&id) {
            Some(kept) => kept.iter().map(|&position| inputs[position]).collect(),
            None => inputs.clone(),
        }
    }

    /// The factors of a sum's inputs that remain.
    pub(crate) fn scales(&self, id: NodeId, scales: &[f32]) -> Vec<f32> {
        match self.kept.get(&id) {
            Some(kept) => kept.iter().map(|&position| scales[position]).collect(),
            None => scales.to_vec(),
        }
    }

    /// For each node, the last computed node that reads it (itself if none does).
    #[cfg(feature = "gpu")]
    pub(crate) fn last_readers(&self, graph: &Graph) -> Vec<NodeId> {
        let mut last: Vec<NodeId> = (0..graph.nodes.len()).collect();
        for id in (0..graph.nodes.len()).filter(|&id| self.computed[id]) {
            for source in self.inputs(graph, id) {
                last[source] = id;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn graph(module: &str) -> Graph {
        let text = format!("family = small; A: {module}; B: I; C: I");
        text.parse::<Architecture>().unwrap().graph().unwrap()
    }

    /// Evaluations computed when the paths with `dropped` numbers are dropped.
    fn computed(module: &str, dropped: &[usize]) -> (usize, usize) {
        let mut path = 0;
        let paths = Paths::surviving(&graph(module), |_| {
            path += 1;
            !dropped.contains(&(path - 1))
        });
        (path, paths.count().computed)
    }

    #[test]
    fn what_no_surviving_path_needs_is_not_computed() {
        // Module, dropped paths, paths in all, evaluations that remain.
        let table: &[(&str, &[usize], usize, usize)] = &[
            ("I + F + GF + HGF", &[], 3, 3),
            // Fig. 10: I + GF needs F's result, but not H.
            ("I + F + GF + HGF", &[0, 2], 3, 2),
            ("I + F + GF + HGF", &[0, 1], 3, 3),
            ("I + F + GF + HGF", &[1, 2], 3, 1),
            // Fig. 10: I + G + H.
            ("I + F + G + H", &[0], 3, 2),
            ("I + F + G + H", &[0, 1, 2], 3, 0),
            ("poly-3", &[2], 3, 2),
            // The paths are F in the argument I + F, then F and F(I + F).
            ("(I + F)^2", &[0], 3, 2),
            ("(I + F)^2", &[1], 3, 2),
            ("(I + F)^2", &[2], 3, 1),
            ("(I + F)^2", &[0, 1], 3, 1),
            // No identity, nothing to drop.
            ("F + G", &[], 0, 2),
        ];
        for &(module, dropped, paths, evaluations) in table {
            let found = computed(module, dropped);
            assert_eq!(found, (paths, evaluations), "{module} {dropped:?}");
        }
    }

    #[test]
    fn chances_rise_linearly_from_the_first_module_to_the_last() {
        let text = "family = small; A: 2-way x2; B: 2-way x2; C: 2-way";
        let graph = text.parse::<Architecture>().unwrap().graph().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut dropped = [0_u32; 5];
        for _ in 0..4000 {
            let paths = Paths::draw(&graph, 0.4, &mut rng);
            for (count, module) in dropped.iter_mut().zip(&graph.module_paths) {
                let sum = &module.sums[0];
                let kept = paths.inputs(&graph, sum.node).len();
                *count += u32::try_from(sum.paths.len() + 1 - kept).unwrap();
            }
        }
        for (index, count) in dropped.into_iter().enumerate() {
            // 8,000 draws: the deviation of a share is below 0.006.
            let share = f64::from(count) / 8000.0;
            assert!(
                (share - 0.1 * index as f64).abs() < 0.02,
                "{index}: {share}"
            );
        }
        assert_eq!(dropped[0], 0);
    }

    #[test]
    fn skipped_evaluations_are_skipped_work() {
        let graph = graph("3-way");
        let all = Paths::all(&graph).count();
        assert_eq!((all.macs, all.computed), (all.computed_macs, 3));
        let none = Paths::surviving(&graph, |_| false).count();
        assert_eq!((none.dropped, none.computed), (3, 0));
        assert!(none.computed_macs < all.computed_macs);
    }
}
