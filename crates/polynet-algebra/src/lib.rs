//! Operator polynomials of PolyNet.
