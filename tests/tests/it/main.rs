//! Rules of the repository that a machine can check.

mod packages;
mod tidy;
