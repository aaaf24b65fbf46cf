//! Kernel, step and border of a convolution or a pool.

/// Kernel, step and border of a convolution, rows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns between outputs.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side.
    pub padding: [usize; 2],
}

impl Window {
    /// 1×1, stride 1.
    pub const POINT: Self = Self {
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
    };

    /// The largest kernel, stride and padding that kernels take.
    pub const LARGEST: usize = 1 << 15;

    /// Rows and columns of the result; 0 where the kernel does not fit.
    ///
    /// # Panics
    /// If a stride is 0.
    pub fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = size[axis] + 2 * self.padding[axis];
            match padded.checked_sub(self.kernel[axis]) {
                Some(room) => room / self.stride[axis] + 1,
                None => 0,
            }
        })
    }

    /// Rows times columns of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// What kernels rely on, so that no size or place overflows.
    ///
    /// # Panics
    /// If a kernel or stride is 0, or a number is larger than [`Window::LARGEST`].
    pub(crate) fn check(&self) {
        let is_sane = |&number: &usize| (1..=Self::LARGEST).contains(&number);
        assert!(
            self.kernel.iter().chain(&self.stride).all(is_sane)
                && self.padding.iter().all(|&padding| padding <= Self::LARGEST),
            "kernels and strides of 1 to {0} and paddings of up to {0}: {self:?}",
            Self::LARGEST
        );
    }
}
