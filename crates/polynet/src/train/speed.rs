//! How fast a run goes.

/// Images a second over the last steps.
#[derive(Debug, Default)]
pub(super) struct Speed {
    /// Images and the time they were done, oldest first.
    recent: std::collections::VecDeque<(usize, f64)>,
}

impl Speed {
    /// Steps that the speed is measured over.
    const STEPS: usize = 20;

    pub(super) fn add(&mut self, images: usize, seconds: f64) {
        self.recent.push_back((images, seconds));
        if self.recent.len() > Self::STEPS {
            self.recent.pop_front();
        }
    }

    /// Zero before the second step: the first one's time includes starting up.
    pub(super) fn images_per_s(&self) -> f64 {
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else {
            return 0.0;
        };
        let images: usize = self.recent.iter().skip(1).map(|(images, _)| images).sum();
        let seconds = last.1 - first.1;
        if seconds > 0.0 {
            images as f64 / seconds
        } else {
            0.0
        }
    }
}
