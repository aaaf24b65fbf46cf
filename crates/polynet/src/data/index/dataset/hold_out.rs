//! Images of a training set that are held out, to choose by.
//!
//! Law: every class gives its share, and which of its images is decided by the seed and the images'
//! paths alone, so that it is the same on any machine and in every run.

use super::Dataset;
use crate::data::error::DataError;
use crate::data::index::splitting::Splitting;

/// Which images of a training set are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldOut {
    /// How many, of all classes together.
    pub images: usize,
    /// Decides which.
    pub seed: u64,
}

/// A side of a divided training set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What is still learned from.
    Kept,
    /// What is held out.
    HeldOut,
}

impl Dataset {
    /// One side of the set, in its order.
    ///
    /// # Errors
    /// If nothing would be left to learn from.
    pub fn side(mut self, hold_out: HoldOut, side: Side) -> Result<Self, DataError> {
        let HoldOut { images, seed } = hold_out;
        if images >= self.len() {
            let error = DataError::configuration(format!(
                "expected fewer than its {} training images to be held out, came {images}",
                self.len()
            ));
            return Err(error.at(self.path.display().to_string()));
        }
        let is_held_out = self.held_out(images, seed);
        let mut is_held_out = is_held_out.into_iter();
        self.samples
            .retain(|_| is_held_out.next().unwrap_or_default() == (side == Side::HeldOut));
        Ok(self)
    }

    /// For each image whether it is among the `count` that are held out.
    ///
    /// The images of a class, in an order drawn from the seed, stand at equal distances from 0 to 1;
    /// those that stand first of all classes together are held out.
    fn held_out(&self, count: usize, seed: u64) -> Vec<bool> {
        let order = Splitting {
            seed,
            ..Splitting::default()
        };
        let mut ranked: Vec<(u32, u64, usize)> = (self.samples.iter().enumerate())
            .map(|(index, sample)| (sample.label, order.rank(&sample.image.path), index))
            .collect();
        ranked.sort_unstable();
        let mut places: Vec<(f64, u64, usize)> = Vec::with_capacity(ranked.len());
        for class in ranked.chunk_by(|one, other| one.0 == other.0) {
            let distance = 1.0 / class.len() as f64;
            let class = class.iter().enumerate();
            places.extend(class.map(|(position, &(_, rank, index))| {
                ((position as f64 + 0.5) * distance, rank, index)
            }));
        }
        places.sort_unstable_by(|one, other| {
            (one.0.total_cmp(&other.0)).then((one.1, one.2).cmp(&(other.1, other.2)))
        });
        let mut is_held_out = vec![false; self.len()];
        for (_, _, index) in &places[..count] {
            is_held_out[*index] = true;
        }
        is_held_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;
    use crate::data::sample_images::{picture_set, write_files};
    use std::collections::BTreeSet;

    fn sides(images: usize, seed: u64) -> [Dataset; 2] {
        let root = tempfile::tempdir().unwrap();
        let mut files = picture_set("train/", &[("cat", 12), ("dog", 6)]);
        files.extend(picture_set("test/", &[("cat", 1), ("dog", 1)]));
        write_files(root.path(), &files);
        [Side::Kept, Side::HeldOut].map(|side| {
            let set = Dataset::open(root.path(), Split::Train).unwrap();
            set.side(HoldOut { images, seed }, side).unwrap()
        })
    }

    fn names(set: &Dataset) -> BTreeSet<String> {
        (0..set.len())
            .map(|index| set.sample(index).name.to_owned())
            .collect()
    }

    #[test]
    fn every_class_gives_its_share_and_no_image_is_on_both_sides() {
        for (count, shares) in [(3, [2, 1]), (6, [4, 2]), (9, [6, 3])] {
            let [kept, held_out] = sides(count, 0);
            assert_eq!(held_out.class_counts(), shares);
            assert_eq!(kept.len() + held_out.len(), 18);
            assert!(names(&kept).is_disjoint(&names(&held_out)));
            assert!(
                names(&held_out)
                    .iter()
                    .all(|name| name.starts_with("train/"))
            );
        }
    }

    #[test]
    fn the_seed_alone_decides_which() {
        assert_eq!(names(&sides(6, 0)[1]), names(&sides(6, 0)[1]));
        assert_ne!(names(&sides(6, 0)[1]), names(&sides(6, 1)[1]));
        // More of them are those and others.
        assert!(names(&sides(6, 0)[1]).is_subset(&names(&sides(9, 0)[1])));
    }

    #[test]
    fn something_must_be_left_to_learn_from() {
        let root = tempfile::tempdir().unwrap();
        write_files(
            root.path(),
            &picture_set("train/", &[("cat", 2), ("dog", 2)]),
        );
        let set = Dataset::open(root.path(), Split::Train).unwrap();
        let hold_out = HoldOut { images: 4, seed: 0 };
        let error = set.side(hold_out, Side::Kept).unwrap_err().to_string();
        assert!(
            error.contains("fewer than its 2 training images"),
            "{error}"
        );
    }
}
