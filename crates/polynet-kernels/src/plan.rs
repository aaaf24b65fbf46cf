//! Where the maps of a computation lie in one arena: two that are needed at the same time lie apart.

/// Places every map at the lowest element that is free all its life, the largest first. A map is
/// needed from its first step to its last, both included; one without a life gets place 0.
///
/// Returns the first element of each and the elements of the arena.
///
/// ```
/// let (starts, elements) = polynet_kernels::plan::place(&[64, 32, 64], &[(0, 1), (1, 2), (2, 3)]);
/// assert_eq!(starts, [0, 64, 0]);
/// assert_eq!(elements, 96);
/// ```
pub fn place(sizes: &[usize], lives: &[(usize, usize)]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.retain(|&id| lives[id].0 <= lives[id].1);
    order.sort_by_key(|&id| std::cmp::Reverse(sizes[id]));
    let mut starts = vec![0; sizes.len()];
    let mut placed: Vec<usize> = Vec::new();
    for id in order {
        let (first, last) = lives[id];
        let mut taken: Vec<[usize; 2]> = placed
            .iter()
            .filter(|&&other| lives[other].0 <= last && first <= lives[other].1)
            .map(|&other| [starts[other], starts[other] + sizes[other]])
            .collect();
        taken.sort_unstable();
        let mut start = 0;
        for [from, to] in taken {
            if start + sizes[id] <= from {
                break;
            }
            start = start.max(to);
        }
        starts[id] = start;
        placed.push(id);
    }
    let ends = placed.iter().map(|&id| starts[id] + sizes[id]);
    (starts.clone(), ends.max().unwrap_or(0))
}
