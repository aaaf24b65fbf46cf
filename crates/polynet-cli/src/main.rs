//! The polynet command.

fn main() {}
