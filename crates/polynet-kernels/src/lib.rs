//! CPU memory and compute kernels of polynet.
