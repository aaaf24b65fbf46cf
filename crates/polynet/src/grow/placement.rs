//! Where the modules of a trained stage stand in a longer one.
//!
//! Interleaved, new modules stand between the old ones (paper §4, Fig. 9): old module `j` of `m`
//! goes as near as can be to `j·n/m` among `n`. Appended, the old ones stay where they are and the
//! new ones follow. Order is kept, and a module goes only where it fits.
//!
//! ```
//! use polynet::grow::{Placement, place};
//! assert_eq!(place(3, 6, Placement::Interleaved, |_, _| true), Some(vec![0, 2, 4]));
//! assert_eq!(place(3, 6, Placement::Appended, |_, _| true), Some(vec![0, 1, 2]));
//! // Two kinds of modules by turns: the second kind fits only at odd positions.
//! assert_eq!(place(2, 4, Placement::Interleaved, |old, new| old % 2 == new % 2), Some(vec![0, 3]));
//! ```

use std::fmt;
use std::str::FromStr;

/// Where new modules stand in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Between the old ones, as the paper has it.
    #[default]
    Interleaved,
    /// After the old ones, for comparison.
    Appended,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interleaved => "interleaved",
            Self::Appended => "append",
        })
    }
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "interleaved" => Ok(Self::Interleaved),
            "append" => Ok(Self::Appended),
            _ => Err("expected `interleaved` or `append`".to_owned()),
        }
    }
}

/// No position costs this much.
const IMPOSSIBLE: u64 = u64::MAX;

/// The positions of `old` modules among `new` ones, ascending; `None` if they can't all be placed.
///
/// `fits(j, p)` says whether old module `j` can stand at position `p`. Of all ways to place them
/// this is the one with the least sum of squared distances from where each module ought to be; of
/// equal ones the one that leaves more room between modules (interleaved) or less (appended).
pub fn place(
    old: usize,
    new: usize,
    placement: Placement,
    fits: impl Fn(usize, usize) -> bool,
) -> Option<Vec<usize>> {
    // Module `j` stands at `j + s` with a shift of 0…spare that never falls.
    let spare = new.checked_sub(old)?;
    let cost = |module: usize, shift: usize| {
        let position = module + shift;
        if !fits(module, position) {
            return IMPOSSIBLE;
        }
        let ideal = match placement {
            Placement::Interleaved => module * new,
            Placement::Appended => module * old,
        };
        let distance = (position * old).abs_diff(ideal) as u64;
        distance.saturating_mul(distance)
    };
    // least[j][s]: the least cost of modules j… with shifts of at least s.
    let mut least = vec![vec![IMPOSSIBLE; spare + 2]; old + 1];
    least[old] = vec![0; spare + 2];
    for module in (0..old).rev() {
        for shift in (0..=spare).rev() {
            let here = cost(module, shift).saturating_add(least[module + 1][shift]);
            least[module][shift] = here.min(least[module][shift + 1]);
        }
    }
    if old > 0 && least[0][0] == IMPOSSIBLE {
        return None;
    }
    let mut shift = 0;
    let mut positions = Vec::with_capacity(old);
    for module in 0..old {
        let best = least[module][shift];
        let is_best_here =
            |shift: usize| cost(module, shift).saturating_add(least[module + 1][shift]) == best;
        let mut candidates = shift..=spare;
        let found = match placement {
            Placement::Interleaved => candidates.rfind(|&shift| is_best_here(shift)),
            Placement::Appended => candidates.find(|&shift| is_best_here(shift)),
        };
        shift = found?;
        positions.push(module + shift);
    }
    Some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(old: usize, new: usize, placement: Placement) -> Vec<usize> {
        place(old, new, placement, |_, _| true).unwrap()
    }

    #[test]
    fn new_modules_stand_between_old_ones_or_after_them() {
        let table: [(usize, usize, &[usize], &[usize]); 8] = [
            (3, 6, &[0, 2, 4], &[0, 1, 2]),
            (6, 12, &[0, 2, 4, 6, 8, 10], &[0, 1, 2, 3, 4, 5]),
            (1, 2, &[0], &[0]),
            (1, 3, &[0], &[0]),
            (2, 3, &[0, 2], &[0, 1]),
            (3, 5, &[0, 2, 3], &[0, 1, 2]),
            (3, 9, &[0, 3, 6], &[0, 1, 2]),
            (4, 4, &[0, 1, 2, 3], &[0, 1, 2, 3]),
        ];
        for (old, new, interleaved, appended) in table {
            assert_eq!(free(old, new, Placement::Interleaved), interleaved);
            assert_eq!(free(old, new, Placement::Appended), appended);
        }
    }

    #[test]
    fn order_is_kept_and_gaps_are_even_for_every_small_stage() {
        for new in 0..=9 {
            for old in 0..=new {
                let positions = free(old, new, Placement::Interleaved);
                assert_eq!(positions.len(), old);
                assert!(positions.is_sorted_by(|a, b| a < b));
                assert!(positions.iter().all(|&position| position < new));
                let ends: Vec<usize> = positions.into_iter().chain([new]).collect();
                let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
                let gaps: Vec<usize> = gaps.collect();
                if let (Some(least), Some(most)) = (gaps.iter().min(), gaps.iter().max()) {
                    assert!(most - least <= 1, "{old} {new}: {gaps:?}");
                }
                assert_eq!(
                    free(old, new, Placement::Appended),
                    (0..old).collect::<Vec<_>>()
                );
            }
            assert_eq!(
                place(new + 1, new, Placement::Interleaved, |_, _| true),
                None
            );
        }
    }

    /// Every ascending choice of positions that fits.
    fn all(old: usize, new: usize, fits: &dyn Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
        (0_u32..1 << new)
            .filter(|mask| mask.count_ones() as usize == old)
            .map(|mask| (0..new).filter(|bit| mask >> bit & 1 == 1).collect())
            .filter(|chosen: &Vec<usize>| chosen.iter().enumerate().all(|(j, &p)| fits(j, p)))
            .collect()
    }

    #[test]
    fn the_placement_is_the_nearest_of_all_that_fit() {
        for pattern in 0..1_u64 << 12 {
            let (old, new) = (3, 4);
            let fits = |j: usize, p: usize| pattern >> (j * new + p) & 1 == 1;
            let distance = |chosen: &[usize]| -> usize {
                let terms = chosen.iter().enumerate();
                terms
                    .map(|(j, &p)| (p * old).abs_diff(j * new).pow(2))
                    .sum()
            };
            let nearest = all(old, new, &fits).iter().map(|c| distance(c)).min();
            let placed = place(old, new, Placement::Interleaved, fits);
            assert_eq!(placed.as_deref().map(distance), nearest, "{pattern:b}");
            assert!(placed.is_none_or(|p| p.iter().enumerate().all(|(j, &p)| fits(j, p))));
        }
    }
}
