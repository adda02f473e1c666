//! Rules of the repository that a machine can check, and tests that need several packages at once.

mod packages;
mod tidy;

mod every_version;
mod node;
