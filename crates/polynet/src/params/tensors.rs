//! The tensors of a network in the host's memory.

use super::file::TensorSource;
use super::writing::TensorRef;
use crate::arch::graph::{Graph, TensorSpec};
use crate::step::NormStatistics;
use polynet_algebra::nearest;
use polynet_kernels::layout::Arena;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::{Index, IndexMut, Range};
use std::sync::Arc;

/// Share of the batch's statistics in the running ones, as in the released model.
const NORM_MOMENTUM: f64 = 0.1;

/// Elements of a cache line, at which every tensor begins.
const LINE: usize = 16;

/// Names that are shown of tensors that do not fit.
const LINES: usize = 9;

/// Tensors by name.
pub type TensorMap = HashMap<String, HostTensor>;

/// A tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f32>,
}

/// Tensors that do not fit a network, each with its name. Nothing is loaded where this is returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorMismatch {
    /// Names that the network has and the file lacks.
    pub missing: Vec<String>,
    /// Names that the file has and the network lacks.
    pub extra: Vec<String>,
    /// Names with the expected and the found shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Names whose elements are no floating-point numbers, and what they are.
    pub not_floating: Vec<(String, String)>,
    /// The name of a tensor that could not be read, and why.
    pub unreadable: Option<Box<(String, String)>>,
}

impl TensorMismatch {
    /// Whether a source's tensors are those of a network, by name, shape and type.
    ///
    /// # Errors
    /// If anything differs.
    pub fn of(graph: &Graph, source: &dyn TensorSource) -> Result<(), Self> {
        Self::check(graph.tensors(), source.shapes())
            .map_err(|mismatch| mismatch.with_types(source.others()))
    }

    /// Names of the missing that are there as something else than floating-point numbers.
    pub(super) fn with_types(mut self, mut others: Vec<(String, String)>) -> Self {
        others.retain(|(name, _)| self.missing.contains(name));
        self.missing
            .retain(|name| !others.iter().any(|(other, _)| other == name));
        self.not_floating = others;
        self
    }

    /// A tensor that could not be read.
    pub(crate) fn unreadable(name: &str, error: &dyn std::fmt::Display) -> Self {
        Self {
            unreadable: Some(Box::new((name.to_owned(), error.to_string()))),
            ..Self::default()
        }
    }

    /// What differs between a network's tensors and those of a file, by name and shape.
    ///
    /// # Errors
    /// If anything does.
    pub fn check<'a>(
        expected: impl IntoIterator<Item = TensorSpec>,
        found: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<(), Self> {
        let mut found: HashMap<&str, &[usize]> = found.into_iter().collect();
        let mut mismatch = Self::default();
        for spec in expected {
            match found.remove(spec.name.as_str()) {
                None => mismatch.missing.push(spec.name),
                Some(shape) if shape != spec.shape => {
                    let shape = shape.to_vec();
                    mismatch.misshapen.push((spec.name, spec.shape, shape));
                }
                Some(_) => {}
            }
        }
        mismatch.extra = found.into_keys().map(str::to_owned).collect();
        mismatch.extra.sort();
        if mismatch == Self::default() {
            Ok(())
        } else {
            Err(mismatch)
        }
    }
}

impl std::fmt::Display for TensorMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((name, error)) = self.unreadable.as_deref() {
            return write!(f, "cannot read the tensor {name}: {error}");
        }
        let (missing, extra) = (self.missing.len(), self.extra.len());
        let (misshapen, others) = (self.misshapen.len(), self.not_floating.len());
        write!(
            f,
            "the tensors do not fit the architecture: {missing} missing, {extra} extra, \
             {misshapen} misshapen"
        )?;
        if others > 0 {
            write!(f, ", {others} of whole numbers")?;
        }
        let kinds = [missing, extra, misshapen, others];
        let shown = LINES / kinds.iter().filter(|&&count| count > 0).count().max(1);
        for name in self.missing.iter().take(shown) {
            write!(f, "\n  missing   {name}")?;
            let extra = self.extra.iter().map(String::as_str);
            if let Some(like) = nearest(name, extra) {
                write!(f, " (the file has {like})")?;
            }
        }
        for name in self.extra.iter().take(shown) {
            write!(f, "\n  extra     {name}")?;
        }
        for (name, expected, found) in self.misshapen.iter().take(shown) {
            write!(
                f,
                "\n  misshapen {name}: expected {expected:?}, found {found:?}"
            )?;
        }
        for (name, found) in self.not_floating.iter().take(shown) {
            write!(
                f,
                "\n  {found:9} {name}: write it as floating-point numbers; 8-bit weights are read as \
                 `polynet quantize` writes them"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for TensorMismatch {}

/// Refuses elements of a file's tensor that are no numbers.
pub(super) fn finite(name: &str, values: &[f32]) -> Result<(), TensorMismatch> {
    const INFINITE: u32 = f32::INFINITY.to_bits();
    let largest = |largest: u32, value: &f32| largest.max(value.abs().to_bits());
    if values.iter().fold(0, largest) < INFINITE {
        return Ok(());
    }
    let (place, value) = (values.iter().enumerate())
        .find(|(_, value)| !value.is_finite())
        .unwrap_or((0, &f32::NAN));
    Err(TensorMismatch::unreadable(
        name,
        &format!("expected finite numbers, its element {place} is {value}"),
    ))
}

/// A network's parameters and running statistics: one buffer in which every tensor begins at a cache
/// line, flat, in the order of [`Graph::tensors`]. `params[index]` are the elements of a tensor in
/// row-major order.
///
/// ```
/// use polynet::arch::Architecture;
/// use polynet::Params;
///
/// let graph = "small-polynet".parse::<Architecture>()?.graph()?;
/// let mut params = Params::init(&graph, 0);
/// assert_eq!(params.specs()[0].name, "stem.0.conv.weight");
/// params[0].fill(0.5);
/// assert_eq!(params.get("stem.0.conv.weight"), Some(&params[0]));
/// # Ok::<(), polynet::arch::ArchError>(())
/// ```
#[derive(Debug)]
pub struct Params {
    layout: Arc<Layout>,
    values: Arena,
}

/// What lies where.
#[derive(Debug)]
struct Layout {
    specs: Vec<TensorSpec>,
    ranges: Vec<Range<usize>>,
    indices: HashMap<String, usize>,
    elements: usize,
}

impl Layout {
    fn new(graph: &Graph) -> Self {
        let specs: Vec<TensorSpec> = graph.tensors().collect();
        let mut elements = 0;
        let ranges = specs.iter().map(|spec| {
            let start = elements;
            let end = start + spec.num_elements();
            elements = end.next_multiple_of(LINE);
            start..end
        });
        let ranges = ranges.collect();
        let names = specs.iter().enumerate();
        let indices = names.map(|(index, spec)| (spec.name.clone(), index));
        Self {
            ranges,
            indices: indices.collect(),
            elements,
            specs,
        }
    }
}

impl Params {
    fn zeros(graph: &Graph) -> Self {
        let layout = Layout::new(graph);
        Self {
            values: Arena::new(layout.elements),
            layout: Arc::new(layout),
        }
    }

    /// He-initialized weights, drawn from `seed`.
    #[cfg(feature = "train")]
    pub fn init(graph: &Graph, seed: u64) -> Self {
        let mut params = Self::zeros(graph);
        for index in 0..params.len() {
            let values = super::init::values(&params.layout.specs[index], seed);
            params[index].copy_from_slice(&values);
        }
        params
    }

    /// The tensors of a graph's names, and no others.
    ///
    /// # Errors
    /// If a name or shape does not fit the graph.
    pub fn from_source(graph: &Graph, source: &dyn TensorSource) -> Result<Self, TensorMismatch> {
        TensorMismatch::of(graph, source)?;
        let mut params = Self::zeros(graph);
        for index in 0..params.len() {
            let layout = Arc::clone(&params.layout);
            params[index].copy_from_slice(&source.values(&layout.specs[index].name)?);
        }
        Ok(params)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.layout.specs.len()
    }

    /// Whether there is no tensor; no network is without.
    pub fn is_empty(&self) -> bool {
        self.layout.specs.is_empty()
    }

    /// Names, shapes and kinds, by index.
    pub fn specs(&self) -> &[TensorSpec] {
        &self.layout.specs
    }

    /// The elements of the tensor of that name.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        Some(&self[*self.layout.indices.get(name)?])
    }

    /// Every tensor with its name, by index.
    pub fn iter(&self) -> impl Iterator<Item = (&TensorSpec, &[f32])> {
        let specs = self.layout.specs.iter().enumerate();
        specs.map(|(index, spec)| (spec, &self[index]))
    }

    /// Every tensor, to be changed.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let mut rest = self.values.as_mut_slice();
        let mut place = 0;
        self.layout.ranges.iter().map(move |range| {
            let (_, tail) = std::mem::take(&mut rest).split_at_mut(range.start - place);
            let (tensor, tail) = tail.split_at_mut(range.len());
            (rest, place) = (tail, range.end);
            tensor
        })
    }

    /// Every tensor as it is written to a file.
    pub(crate) fn refs(&self) -> Vec<TensorRef<'_>> {
        self.iter()
            .map(|(spec, values)| TensorRef::new(&spec.name, &spec.shape, values))
            .collect()
    }

    /// All elements; between tensors there are zeros.
    pub fn as_slice(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// All elements; what lies between tensors must stay zero.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        self.values.as_mut_slice()
    }

    /// Every tensor by name.
    pub fn to_map(&self) -> TensorMap {
        let tensor = |(spec, values): (&TensorSpec, &[f32])| {
            let shape = spec.shape.clone();
            let values = values.to_vec();
            (spec.name.clone(), HostTensor { shape, values })
        };
        self.iter().map(tensor).collect()
    }

    /// Moves the running statistics towards those of a batch: `r ← 0.9·r + 0.1·b`.
    pub fn update_statistics(&mut self, graph: &Graph, statistics: &[NormStatistics]) {
        let (kept, fresh) = ((1.0 - NORM_MOMENTUM) as f32, NORM_MOMENTUM as f32);
        for seen in statistics {
            let [_, _, mean, var] = graph.norm_tensors(seen.norm);
            for (index, batch) in [(mean, &seen.mean), (var, &seen.unbiased_var)] {
                for (running, batch) in self[index].iter_mut().zip(batch) {
                    *running = *running * kept + batch * fresh;
                }
            }
        }
    }
}

impl Clone for Params {
    fn clone(&self) -> Self {
        Self {
            layout: Arc::clone(&self.layout),
            values: Arena::from(self.values.as_slice()),
        }
    }
}

/// To the bit.
impl PartialEq for Params {
    fn eq(&self, other: &Self) -> bool {
        let bits = |params: &Self, index: usize| -> Vec<u32> {
            params[index].iter().map(|value| value.to_bits()).collect()
        };
        self.specs() == other.specs()
            && (0..self.len()).all(|index| bits(self, index) == bits(other, index))
    }
}

impl Index<usize> for Params {
    type Output = [f32];

    fn index(&self, index: usize) -> &[f32] {
        &self.values.as_slice()[self.layout.ranges[index].clone()]
    }
}

impl IndexMut<usize> for Params {
    fn index_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values.as_mut_slice()[self.layout.ranges[index].clone()]
    }
}

impl TensorSource for Params {
    fn shapes(&self) -> Box<dyn Iterator<Item = (&str, &[usize])> + '_> {
        let specs = self.layout.specs.iter();
        Box::new(specs.map(|spec| (spec.name.as_str(), spec.shape.as_slice())))
    }

    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, TensorMismatch> {
        Ok(Cow::Borrowed(&self[self.layout.indices[name]]))
    }
}

#[cfg(test)]
#[cfg(feature = "train")]
mod tests {
    use super::*;
    use crate::arch::Architecture;

    fn graph(spec: &str) -> Graph {
        spec.parse::<Architecture>().unwrap().graph().unwrap()
    }

    #[test]
    fn tensors_that_do_not_fit_are_listed_by_name() {
        let graph = graph("small-ir-1-2-1");
        let mut tensors = Params::init(&graph, 7).to_map();
        tensors.remove("head.linear.bias");
        let other = HostTensor {
            shape: vec![1],
            values: vec![0.0],
        };
        tensors.insert("other".to_owned(), other);
        tensors.get_mut("stem.0.norm.weight").unwrap().shape = vec![4, 8];
        let error = Params::from_source(&graph, &tensors).unwrap_err();
        assert_eq!(error.missing, ["head.linear.bias"]);
        assert_eq!(error.extra, ["other"]);
        assert_eq!(error.misshapen.len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_told_in_ten_lines_with_the_nearest_names() {
        let graph = graph("small-polynet");
        let mut tensors = Params::init(&graph, 7).to_map();
        let misspelt = |name: String| name.replace(".conv.weight", ".conv.wieght");
        tensors = tensors.into_iter().map(|(n, t)| (misspelt(n), t)).collect();
        let first = tensors.get_mut("stem.0.norm.weight").unwrap();
        first.shape = vec![4, 8];
        let error = Params::from_source(&graph, &tensors).unwrap_err();
        assert!(error.missing.len() > 10 && error.extra.len() == error.missing.len());
        let told = error.to_string();
        assert!(told.lines().count() <= 10, "{told}");
        let nearest = "missing   stem.0.conv.weight (the file has stem.0.conv.wieght)";
        assert!(told.contains(nearest), "{told}");
    }

    #[test]
    fn a_model_is_not_made_of_what_is_no_number() {
        let graph = graph("small-ir-1-2-1");
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut tensors = Params::init(&graph, 7).to_map();
            tensors.get_mut("stem.0.norm.weight").unwrap().values[2] = wrong;
            let error = Params::from_source(&graph, &tensors).unwrap_err();
            let told = error.to_string();
            let expected =
                format!("stem.0.norm.weight: expected finite numbers, its element 2 is {wrong}");
            assert!(told.contains(&expected), "{told}");
        }
    }

    #[test]
    fn every_tensor_begins_at_a_cache_line_and_is_its_own() {
        let graph = graph("small-polynet; width = 0.2");
        let mut params = Params::init(&graph, 1);
        let map = params.to_map();
        assert_eq!(Params::from_source(&graph, &map).unwrap(), params);
        let expected: Vec<Vec<f32>> = params.iter().map(|(_, values)| values.to_vec()).collect();
        for (index, tensor) in params.tensors_mut().enumerate() {
            assert!(
                (tensor.as_ptr() as usize).is_multiple_of(64),
                "tensor {index}"
            );
            assert_eq!(tensor, expected[index]);
            tensor.fill(index as f32);
        }
        for index in 0..params.len() {
            let count = params.specs()[index].num_elements();
            assert_eq!(params[index], vec![index as f32; count]);
        }
    }

    #[test]
    fn running_statistics_move_by_a_tenth() {
        let graph = graph("small-polynet; width = 0.125");
        let mut params = Params::init(&graph, 1);
        let channels = graph.norms[2].channels;
        let seen = NormStatistics {
            norm: 2,
            mean: vec![2.0; channels],
            unbiased_var: vec![3.0; channels],
        };
        params.update_statistics(&graph, &[seen]);
        let [_, _, mean, var] = graph.norm_tensors(2);
        assert!(params[mean].iter().all(|mean| (mean - 0.2).abs() < 1e-6));
        assert!(params[var].iter().all(|var| (var - 1.2).abs() < 1e-6));
    }
}
