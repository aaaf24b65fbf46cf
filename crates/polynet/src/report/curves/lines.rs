//! From measured values to the points of a line: `(step, value)` in the order of the steps.

/// Points of a line at most: more can't be told apart and only swell the file.
const MOST_POINTS: usize = 1200;

/// The finite values; a loss that is no number has no place in a picture.
pub(super) fn finite(values: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    values.filter(|(_, y)| y.is_finite()).collect()
}

/// The mean of each value and its neighbours on both sides, the farther the lighter: a value's
/// weight falls to 1/e over an eightieth of the run, and never over less than two values.
pub(super) fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() as f64 / 80.0).max(2.0);
    let keep = (-1.0 / reach).exp();
    let decay = |(sum, weight): &mut (f64, f64), point: &(f64, f64)| {
        (*sum, *weight) = (keep * *sum + point.1, keep * *weight + 1.0);
        Some((*sum, *weight))
    };
    let before = points.iter().scan((0.0, 0.0), decay);
    let mut after: Vec<_> = points.iter().rev().scan((0.0, 0.0), decay).collect();
    after.reverse();
    let both = points.iter().zip(before).zip(after);
    // A value is in both sums and counts once.
    both.map(|(((x, y), before), after)| {
        (*x, (before.0 + after.0 - y) / (before.1 + after.1 - 1.0))
    })
    .collect()
}

/// At most [`MOST_POINTS`] points: each the mean of its neighbours, but for the last one.
pub(super) fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(MOST_POINTS);
    if size <= 1 {
        return points;
    }
    let mean = |bucket: &[(f64, f64)]| {
        let count = bucket.len() as f64;
        let (x, y) = bucket
            .iter()
            .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / count, y / count)
    };
    let last = points.last().copied();
    let buckets = points.chunks(size).map(mean);
    buckets
        .take(points.len().div_ceil(size) - 1)
        .chain(last)
        .collect()
}

/// The corners of a line that is horizontal up to the next value, then vertical.
pub(super) fn stairs(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let first = points.first().copied();
    let falls = points.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    let corners = falls.flat_map(|pair| [(pair[1].0, pair[0].1), pair[1]]);
    let mut stairs: Vec<_> = first.into_iter().chain(corners).collect();
    stairs.extend(points.last());
    stairs.dedup();
    stairs
}

/// The top of the loss panel: above all lines, but not above the highest 2 % of raw values.
pub(super) fn loss_ceiling(raw: &[(f64, f64)], lines: &[&[(f64, f64)]]) -> f64 {
    let mut values: Vec<f64> = raw.iter().map(|(_, y)| *y).collect();
    values.sort_by(f64::total_cmp);
    let usual = values.get(values.len().saturating_sub(1) * 98 / 100);
    let highest = lines.iter().copied().flatten().map(|(_, y)| *y);
    let top = highest.chain(usual.copied()).fold(0.0, f64::max);
    if top > 0.0 { 1.05 * top } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_are_thinned_and_keep_their_end() {
        let many: Vec<_> = (0..100_000).map(|index| (f64::from(index), 1.0)).collect();
        let few = thinned(many.clone());
        assert!(
            few.len() <= MOST_POINTS && few.len() > MOST_POINTS / 2,
            "{}",
            few.len()
        );
        assert_eq!(few.last(), many.last());
        assert!(few.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn the_running_mean_follows_without_a_lag() {
        assert_eq!(running_mean(&[(3.0, 4.0)]), [(3.0, 4.0)]);
        // Weights 1 and e^(-1/2): (1 + 5·0.6065) / 1.6065 = 2.5101, and 6 less that.
        let means = running_mean(&[(0.0, 1.0), (1.0, 5.0)]);
        assert!((means[0].1 - 2.510_162).abs() < 1e-6 && (means[1].1 - 3.489_838).abs() < 1e-6);
        let step: Vec<_> = (0..1000)
            .map(|x| (f64::from(x), if x < 500 { 4.0 } else { 2.0 }))
            .collect();
        let means = running_mean(&step);
        assert!((means[0].1 - 4.0).abs() < 1e-9 && (means[999].1 - 2.0).abs() < 1e-9);
        // As far above the middle before the step as below it after.
        assert!((means[490].1 - 3.0 + (means[509].1 - 3.0)).abs() < 1e-9);
        assert!(means.windows(2).all(|pair| pair[0].1 >= pair[1].1 - 1e-12));
    }

    #[test]
    fn stairs_turn_only_where_the_rate_falls() {
        let rate = vec![(1.0, 5.0), (2.0, 5.0), (3.0, 5.0), (4.0, 1.0), (5.0, 1.0)];
        assert_eq!(
            stairs(&rate),
            [(1.0, 5.0), (4.0, 5.0), (4.0, 1.0), (5.0, 1.0)]
        );
    }

    #[test]
    fn a_spike_does_not_flatten_the_loss() {
        let mut raw: Vec<_> = (0..1000).map(|x| (f64::from(x), 2.0)).collect();
        raw[3].1 = 1e9;
        assert!(loss_ceiling(&raw, &[&[(0.0, 3.0)]]) < 4.0);
        assert_eq!(loss_ceiling(&[], &[]), 1.0);
    }
}
