//! Networks against public implementations in PyTorch, computed in float64: prediction by the engine on
//! every instruction set of this processor, and prediction, training and every stage by the oracle,
//! which judges the engine in tests/oracle.
//!
//! Weights, statistics and input come from a formula that `peers/fixtures_polynet.py` and this test
//! share, so that the fixtures hold results only. Another seed: `cargo xtask fixtures --seed 2
//! --out DIR`, then run this test with `POLYNET_FIXTURES=DIR`.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

mod networks;
mod polynet;
mod reference;
