//! Image classifiers whose structure is written as algebra.
